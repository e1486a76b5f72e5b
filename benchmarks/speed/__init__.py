"""Speed beside the peers, in ratios of one run: `python -m benchmarks.speed`."""
