"""How to send a request to /v1/chat/completions and decode its replies."""
