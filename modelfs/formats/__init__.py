"""Checkpoint formats told from their content: where the tensors lie, never what they mean.

`detect.parse` is the face, `layout` says what a parser is. Pure, no I/O, never raises on hostile input: a file that
lies about itself has no layout. One module a format.
"""
