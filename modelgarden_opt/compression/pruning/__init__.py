"""Pruning: masks, their schedules, and which kernels get one."""
