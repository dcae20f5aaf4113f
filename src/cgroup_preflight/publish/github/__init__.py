"""TODO github."""
