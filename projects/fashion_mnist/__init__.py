"""Studies on Fashion-MNIST: what every technique costs in accuracy."""
