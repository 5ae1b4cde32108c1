"""Thin tasks over official.vision, and run directories."""
