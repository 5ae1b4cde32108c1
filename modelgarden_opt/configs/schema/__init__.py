"""What every field of a configuration takes, as data; no TensorFlow."""
