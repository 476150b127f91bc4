"""A real vLLM on this machine's CPU, serving two tiny models to the live tests and the demo."""
