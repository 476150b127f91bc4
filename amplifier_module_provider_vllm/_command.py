"""The error by which a command says that it cannot be done."""


class CommandError(Exception):
    """An invalid argument, or a file that cannot be read; its text is for the user."""
