"""Classification families on digits: float, PTQ and QAT."""
