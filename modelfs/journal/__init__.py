"""Staged writes and the log of changes that are not in the store yet."""
