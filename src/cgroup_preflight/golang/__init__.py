"""What a binary file says about itself: format, architecture, Go build info; and what an execution trace says. Runs nothing."""
