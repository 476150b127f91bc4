"""One module for each program that reads what we wrote, run in that program's own environment."""
