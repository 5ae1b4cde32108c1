"""From float models to compressed ones; loading of checkpoints."""
