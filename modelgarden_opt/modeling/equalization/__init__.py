"""Rewrites models so that they compute the same and quantize better."""
