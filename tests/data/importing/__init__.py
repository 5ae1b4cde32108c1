"""Tests of the importing of data sets."""
