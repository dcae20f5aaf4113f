"""Plan: which units exist, what their files say, and what the kernel must hold afterwards. Pure."""
