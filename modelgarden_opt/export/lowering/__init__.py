"""Passes over a converted file: what the converter cannot be asked for.

A pass is a function that changes a `flatbuffer.Model` in place; `convert` runs
them in order, between one reading and one writing of the file.
"""
