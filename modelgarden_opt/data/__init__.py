"""Embedded data sets and the inputs of every split."""
