"""Tests of the Go binary readers; `binaries` makes the files they read."""
