"""Puts the generated unit files into build artifacts: one file per container format, every write atomic.

One way through: a format *surveys* the artifact (`scan`), `edit` decides what has to change (pure), the format
writes it. Members that do not change are copied as the bytes they are.
"""
