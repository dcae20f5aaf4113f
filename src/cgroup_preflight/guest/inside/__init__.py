"""The part that runs inside the guest: imports only the standard library and itself."""
