"""The words that every room speaks: findings, verdicts, readings, quantities, errors. No I/O."""
