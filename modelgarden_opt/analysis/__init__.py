"""Which layers cost accuracy: their errors, and what techniques do to them."""
