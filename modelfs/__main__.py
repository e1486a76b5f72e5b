"""``python -m modelfs``: the command line without an installed script."""

from modelfs.cli.app import main

if __name__ == "__main__":
    main()
