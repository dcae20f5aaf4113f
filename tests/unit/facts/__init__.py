"""Tests of the parsers of kernel files and of the function that gathers them."""
