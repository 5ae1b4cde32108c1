"""Rounding of kernels by what it does to the outputs of their layers."""
