"""Tests of the starter config."""
