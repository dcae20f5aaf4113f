"""Scripts that CI systems and nox call; they have none of the product's logic."""
