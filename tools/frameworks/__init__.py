"""The framework matrix: every framework's own save and load, on a mount and on a local disk. ``make frameworks``."""
