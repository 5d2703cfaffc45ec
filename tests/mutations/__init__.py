"""Whole datasets with random damage, and what every way of reading them makes of it. `run.py` is the program."""
