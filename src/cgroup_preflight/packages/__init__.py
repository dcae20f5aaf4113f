"""Built packages, installed for real in a guest: their units as installed, their upgrade, their removal."""
