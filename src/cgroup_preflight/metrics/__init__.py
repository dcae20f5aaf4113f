"""Metrics of slices for Prometheus, and the diagnosis of contention between slices."""
