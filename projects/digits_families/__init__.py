"""Every classification family on digits: float, PTQ and QAT."""
