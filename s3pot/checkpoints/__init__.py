"""Checkpoints of the official networks: which there are, where they lie, how they are read and fetched [design 7]."""
