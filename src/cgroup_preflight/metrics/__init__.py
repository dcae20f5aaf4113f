"""Reads the counters of all slices and units again and again, for the exporter and for the diagnosis of contention."""
