"""What the kernel offers: switches, files, limits of the machine."""
