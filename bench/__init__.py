"""What the provider costs, beside what else a session could use."""
