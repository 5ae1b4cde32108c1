"""Pruning of ImageNet models: sizes and latencies beside the published ones."""
