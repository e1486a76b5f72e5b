"""Verified chunks on local disk, bounded in bytes and shared by all mounts of a store on this machine.

`cache.Cache` is the face of the package, `files.CacheFile` what a reader holds; everything here is blocking and
thread-safe and knows nothing of trio, FUSE or the store.
"""
