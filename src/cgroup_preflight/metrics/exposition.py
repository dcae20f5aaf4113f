"""The two text formats of Prometheus, and which one a client wants.

Formats: Prometheus exposition formats (text format 0.0.4) and OpenMetrics 1.0. They differ in the lines before the samples
of a family and at the end. Choice: RFC 9110, sections 12.4.2 and 12.5.
"""

import enum

from cgroup_preflight.metrics.families import Family


class Style(enum.Enum):
    """A text format, with its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def head(family: Family, style: Style) -> str:
    """HELP and TYPE of a family, and UNIT, which OpenMetrics wants for a name that ends in one."""
    unit = ""
    name, kind, text = family.name, family.kind, family.help.replace("\\", "\\\\").replace("\n", "\\n")
    if style is Style.OPENMETRICS:
        name, text = name.removesuffix("_total"), text.replace('"', '\\"')
        unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    elif kind == "info":
        name, kind = f"{name}_info", "gauge"
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n{unit}"


def end(style: Style) -> str:
    """The last line."""
    return "# EOF\n" if style is Style.OPENMETRICS else ""


#: Of each format: its type and what else matches it, the most specific first, and its versions, the usual first.
_RANGES = {
    Style.TEXT: (("text/plain", "text/*", "*/*"), ("0.0.4",)),
    Style.OPENMETRICS: (("application/openmetrics-text", "application/*", "*/*"), ("1.0.0", "0.0.1")),
}


def style_for(accept: str) -> Style:
    """The format with the highest quality value in an Accept header; the text format where none is accepted.

    Of several choices that match a format, the most specific one counts. Of two formats with the same value, it is the
    one that is named more specifically, then the one that is named first.
    """
    choices = _choices(accept)
    best, style = (0.0, 0, 0), Style.TEXT
    for found in _RANGES:
        rank = _rank(found, choices)
        if rank > best:
            best, style = rank, found
    return style


def _rank(style: Style, choices: list[tuple[str, dict[str, str], float]]) -> tuple[float, int, int]:
    """The quality value of a format, how specific the choice is, and its place, counted from the end."""
    ranges, versions = _RANGES[style]
    for place_in_ranges, name in enumerate(ranges):
        matching = [
            (quality, -place_in_ranges, -place)
            for place, (found, parameters, quality) in enumerate(choices)
            if found == name and parameters.get("version", versions[0]) in versions
        ]
        if matching:
            return max(matching)
    return (0.0, 0, 0)


def wants_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    found = {name: quality for name, _, quality in _choices(accept_encoding)}
    return found.get("gzip", found.get("*", 0.0)) > 0.0


def _choices(header: str) -> list[tuple[str, dict[str, str], float]]:
    """Each choice of a header: its name, its parameters, and its quality value; one that is malformed counts as 0."""
    found = []
    for item in header.split(","):
        name, *rest = (word.strip().lower() for word in item.split(";"))
        parameters = {key.strip(): value.strip().strip('"') for key, _, value in (word.partition("=") for word in rest)}
        found.append((name, parameters, _quality(parameters.pop("q", "1"))))
    return found


def _quality(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value <= 1.0 else 0.0
