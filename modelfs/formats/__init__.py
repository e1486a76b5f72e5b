"""Checkpoint formats told from their content: where the tensors lie, never what they mean.

`detect.detect` is the face. Pure, no I/O, never raises on hostile input: a file that lies about itself has no layout.
"""
