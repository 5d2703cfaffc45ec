"""Packing: options, the native job, its report."""
