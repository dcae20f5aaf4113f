"""The part that runs inside the guest: standard library only, no import from the rest of the package."""
