"""How to send a prompt to /v1/completions and decode what the model wrote."""
