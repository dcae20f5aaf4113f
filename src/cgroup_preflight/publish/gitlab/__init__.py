"""TODO gitlab."""
