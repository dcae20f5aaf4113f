"""Facts: pure parsers named after the kernel's files, and the one function that gathers them."""
