"""The socket and the HTTP over it: all that is sent and read passes through here."""
