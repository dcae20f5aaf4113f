"""Plan: which units exist, what their files say, and what the kernel's files must say then. Pure."""
