"""The state of models: checkpoints, what a run starts from, architectures."""
