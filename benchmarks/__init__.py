"""Figures, side by side; never timed tests. `make bench` runs them all."""
