"""Everything that knows vLLM's /v1/responses."""
