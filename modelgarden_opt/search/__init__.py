"""Search: what to do with every layer, within a budget, judged on the file."""
