"""Smoke: runs services under their limits and proves from the kernel's files that every limit is in force."""
