"""Tests of the checks of Go programs."""
