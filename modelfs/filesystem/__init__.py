"""``modelfs://`` for fsspec: the same file system as a mount, inside a Python program and without a kernel.

`spec` is what fsspec calls, `files` are open files, `places` reads URLs and options, `engine` runs the file system on a
thread of its own, one for each store and options in a process, and `tree` is what it does there.
"""
