"""The service managers of this host, and who can start units."""
