"""Comparison with the Model Garden's own QAT, see docs/benchmarks.md."""
