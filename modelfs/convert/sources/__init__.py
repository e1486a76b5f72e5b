"""Formats that models are read from: one module each, with ``read(file) -> Model``.

A source may be hostile. Nothing of it is run, headers are bounded (`limits.LAYOUT_*`), and what makes no sense is a
UsageError of one line that names the file or the tensor.
"""
