"""Fake quantization of kernels and activations."""
