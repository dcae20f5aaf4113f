"""Tests of engines and checks on fabricated hosts."""
