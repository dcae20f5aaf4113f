"""What CI systems and nox call: importable, tested, no logic of the product."""
