"""Staged pipelines: one YAML, one directory, several commands."""
