"""Where chunks begin and end: pure functions over bytes, no I/O.

`cutter.Cutter` is the face: tensor-aligned where the format is known, content-defined elsewhere.
"""
