"""Folders of files, with their labels and annotations beside them."""
