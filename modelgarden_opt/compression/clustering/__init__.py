"""Clustering: centroids, their tables, and which kernels get one."""
