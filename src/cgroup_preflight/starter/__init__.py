"""What `init` does: looks at a folder, and writes a starter config for what it found there."""
