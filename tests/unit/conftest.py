"""Property tests without a deadline, since a busy machine is no bug, and the same examples on every run."""

from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")
