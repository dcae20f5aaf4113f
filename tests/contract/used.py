"""Which operations the tests made use of, by description."""

USED: dict[str, set[str]] = {}
