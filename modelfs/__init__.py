"""modelfs mounts a content-addressed store of model checkpoints as a directory of ordinary files."""

import logging

__version__ = "0.1.0"

# A program that uses the library decides where its log goes; without a decision nothing is printed.
logging.getLogger(__name__).addHandler(logging.NullHandler())
