"""What a binary file says about itself: format, architecture, Go build info. Reads files, runs nothing."""
