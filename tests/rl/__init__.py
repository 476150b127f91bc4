"""Programs that train on trajectories, or check them, read what we write."""
