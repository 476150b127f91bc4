"""The socket and HTTP: every request and reply passes through here."""
