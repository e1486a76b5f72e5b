"""The command line: one verb a module, wired together in `app`, printing through `output`."""
