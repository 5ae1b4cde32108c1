"""Reproducible studies; they import the package, never the other way."""
