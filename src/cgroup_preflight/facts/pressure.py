"""Pressure stall information: `*.pressure` (kernel Documentation/accounting/psi.rst)."""


def parse_pressure(text: str) -> dict[str, float]:
    """`some_avg10`, `some_total`, `full_avg10` and so on; percent, totals in microseconds. Raises ValueError."""
    values: dict[str, float] = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        if kind not in ("some", "full"):
            raise ValueError(f"not a pressure line: {line[:80]!r}")
        for pair in pairs:
            key, separator, value = pair.partition("=")
            if not separator:
                raise ValueError(f"not a pressure line: {line[:80]!r}")
            values[f"{kind}_{key}"] = float(value)
    if not values:
        raise ValueError("nothing in it")
    return values
