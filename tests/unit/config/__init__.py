"""Tests of the config: positions, keys, rules, every mistake at once."""
