"""How the tiny models were made; runs in vLLM's environment, which has torch and transformers."""
