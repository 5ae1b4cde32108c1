"""Tables and pictures from JSON results."""
