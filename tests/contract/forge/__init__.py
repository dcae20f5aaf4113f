"""Stateful forges on loopback, for tests: they keep what was written, and check every request."""
