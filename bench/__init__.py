"""Figures for docs/benchmarks.md: `python -m bench NAME`. Ratios of interleaved runs, never single absolute times."""
