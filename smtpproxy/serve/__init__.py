"""Everything under one command, on one machine with nothing else installed (OPS-1)."""
