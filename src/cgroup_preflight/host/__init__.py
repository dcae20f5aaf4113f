"""The one door to the machine: files below a root, and commands with a time-out."""
