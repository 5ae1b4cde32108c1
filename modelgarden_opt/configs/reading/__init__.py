"""Reads overrides: YAML files and the text of `--params_override`."""
