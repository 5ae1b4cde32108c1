"""Latency and size of .tflite files."""
