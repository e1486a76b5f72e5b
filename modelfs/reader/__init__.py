"""Byte ranges of files out of the cache and the store, with read-ahead."""
