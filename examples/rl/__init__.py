"""Amplifier sessions as the agents of a trainer."""
