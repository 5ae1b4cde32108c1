"""Comparison with the Model Garden's own QAT, see docs/benchmarks.md."""

# What a comparison measures beside building.
PARTS = ('training', 'files')
