"""What is particular to gpt-oss: its vocabulary, and counting tokens with it."""
