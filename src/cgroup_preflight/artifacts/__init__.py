"""Puts the generated unit files into build artifacts: one file per container format, every write atomic.

The way through: `scan` looks at every member that a format shows it, `edit` decides what has to change (pure), the
format writes it. Members that do not change are copied as the bytes they are.
"""
