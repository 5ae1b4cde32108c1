"""How training scales here: input, precision, compilation."""
