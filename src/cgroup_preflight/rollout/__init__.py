"""Changes the limits of running slices in steps: applies, reads back, judges, and takes back what does harm."""
