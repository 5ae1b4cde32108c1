"""What files cost on devices, see docs/targets.md."""
