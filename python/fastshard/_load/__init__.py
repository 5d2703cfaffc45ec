"""Loaders: passes over a dataset, ranks, the cache of decoded pixels."""
