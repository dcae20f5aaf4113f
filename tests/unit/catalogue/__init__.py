"""Tests of the catalogue of checks as a whole: its table, its pages, recorded hosts, robustness."""
