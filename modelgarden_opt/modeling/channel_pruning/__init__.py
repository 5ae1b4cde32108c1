"""Structured pruning: which channels a smaller model keeps, and why."""
