"""The scorecard: every embedded model and the chain, measured against the targets of the project.

One module per model; measuring functions take loaded models and composites and return per-image tables, from which
estimates with intervals are made. `table.py` holds the targets and prints the whole table.
"""
