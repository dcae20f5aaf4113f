"""Tests of the pure parts of the smoke room."""
