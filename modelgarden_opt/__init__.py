"""Config-driven compression of TensorFlow Model Garden vision models."""

__version__ = '0.1.0'
