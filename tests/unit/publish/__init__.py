"""Publishing: pure parts, and the channels against forges on loopback."""
