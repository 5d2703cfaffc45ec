"""Rows of datasets that are packed: opening folders, views, Arrow tables, verifying."""
