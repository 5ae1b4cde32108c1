"""Configuration blocks and registered experiments; no layers."""
