"""Orbit actions and the glue that runs an experiment."""
