"""Find out why a session with a self-hosted server does not work, and say which flag or key to change."""
