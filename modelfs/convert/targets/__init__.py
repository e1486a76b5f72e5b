"""Formats that models are written in: one module each, with ``plan(model, name, progress) -> [(file name, Plan)]``.

What a format cannot hold is a UsageError that names the tensor and what the format lacks. The same model gives the
same bytes. ``progress`` is called with bytes of tensors that were read for checksums.
"""
