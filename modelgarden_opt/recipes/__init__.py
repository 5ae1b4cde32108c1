"""Configurations to start from: shipped ones, and ones made for a data set."""
