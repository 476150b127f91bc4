"""How to send a request to /v1/responses and decode its replies."""
