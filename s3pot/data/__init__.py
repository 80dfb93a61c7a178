"""Datasets: reading other people's formats into one manifest, splitting them, giving masks back (docs/data.md)."""
