"""Config-driven compression of TensorFlow Model Garden vision models."""

__version__ = '0.2.0'
