"""What every room uses: findings, verdicts, readings, quantities, errors. No I/O."""
