"""Exports: the rows of a dataset as files that other programs read."""
