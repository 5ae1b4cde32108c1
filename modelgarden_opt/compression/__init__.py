"""Techniques: topology, rules, leaves and twins, transforms of kernels."""
