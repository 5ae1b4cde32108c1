"""Rules that several fields of a configuration obey together; no TensorFlow."""
