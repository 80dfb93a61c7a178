"""Datasets: face collections on disk and the folds that keep them apart."""
