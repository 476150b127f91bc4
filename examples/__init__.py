"""Programs that show the provider at work."""
