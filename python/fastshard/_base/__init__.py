"""What every room uses, and what depends on none: checks of options, names, progress, files that are written."""
