"""Output of `systemctl show UNIT...`: `Key=Value` lines, an empty line between units (systemctl(1))."""


def parse_unit_show(text: str) -> tuple[dict[str, str], ...]:
    """One dictionary a unit, in the order asked; lines without `=` are not part of a value we ask for."""
    units: list[dict[str, str]] = [{}]
    for line in text.split("\n"):
        if not line:
            units.append({})
            continue
        key, separator, value = line.partition("=")
        if separator:
            units[-1][key] = value
    return tuple(unit for unit in units if unit)
