"""Thin programs that turn library calls into Ray work and log to MLflow; each runs from a shell or `ray job submit`."""
