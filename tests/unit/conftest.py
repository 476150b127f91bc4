"""Run property tests without a deadline, since a busy machine is not a bug, and with the same examples on every run."""

from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")
