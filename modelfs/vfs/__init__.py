"""The file system without a kernel: inodes, handles, staged writes, commits, following."""
