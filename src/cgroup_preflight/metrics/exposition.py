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
    """HELP and TYPE of a family."""
    name, kind, text = family.name, family.kind, family.help.replace("\\", "\\\\").replace("\n", "\\n")
    if style is Style.OPENMETRICS:
        name, text = name.removesuffix("_total"), text.replace('"', '\\"')
    elif kind == "info":
        name, kind = f"{name}_info", "gauge"
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def end(style: Style) -> str:
    """The last line."""
    return "# EOF\n" if style is Style.OPENMETRICS else ""


_TYPES = {
    "application/openmetrics-text": Style.OPENMETRICS, "text/plain": Style.TEXT, "text/*": Style.TEXT, "*/*": Style.TEXT,
}  # fmt: skip
_VERSIONS = {Style.OPENMETRICS: ("1.0.0", "0.0.1"), Style.TEXT: ("0.0.4",)}


def style_for(accept: str) -> Style:
    """The format with the highest quality value in an Accept header; the text format where none is accepted."""
    best, style = 0.0, Style.TEXT
    for name, parameters, quality in _choices(accept):
        found = _TYPES.get(name)
        if found is None or parameters.get("version", _VERSIONS[found][0]) not in _VERSIONS[found]:
            continue
        if quality > best:
            best, style = quality, found
    return style


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
