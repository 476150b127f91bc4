"""The gpt-oss vocabulary, and token counts with it."""
