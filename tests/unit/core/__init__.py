"""Tests of the vocabulary: quantities, properties, verdict, readings, errors."""
