"""Reads other people's data sets, and writes them as the loaders read them."""
