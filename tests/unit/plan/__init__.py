"""Tests of the plan: names, unit files, what the kernel must hold."""
