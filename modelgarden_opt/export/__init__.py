"""Conversion to TFLite and verification of the file."""
