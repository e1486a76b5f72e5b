"""What every way of serving a store needs, with a kernel (`modelfs.fuse`) or without (`modelfs.filesystem`).

`stack` opens the blocking parts, `secret` finds what opens an encrypted store, `wanted` makes `MountOptions` of
settings, `upkeep` is what goes on beside the requests, `drain` is the end.
"""
