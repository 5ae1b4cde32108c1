"""Backbones that the Model Garden does not have."""
