"""A mounted, content-addressed store of model checkpoints."""

__version__ = "0.1.0"
