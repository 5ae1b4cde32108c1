"""The functions of `modelgarden_opt` that take Keras models."""
