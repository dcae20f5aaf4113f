"""What the tests need to know of a PromQL expression: its series, the labels it names, what a range function reads.

It is no parser: whether an expression is valid at all is promtool's to say (tests/lab/test_prometheus.py).
"""

import re
from dataclasses import dataclass

_NOT_METRICS = ("by", "without", "on", "ignoring", "and", "or", "unless", "offset", "inf", "nan", "sum", "min", "max")
_LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A selector: the name of the metric, the labels it names, and the function right around it with a range."""

    name: str
    labels: tuple[str, ...]
    range_function: str


def series_of(expression: str) -> tuple[Series, ...]:
    """All selectors of an expression."""
    plain = _GROUPING.sub("", expression)
    found = []
    pattern = r"(?:(\w+)\(\s*)?(?<![\w:$\"])([a-zA-Z_:][\w:]*)(?![\w:(]|\s*\()(\{(?:[^\"}]|\"[^\"]*\")*\})?(\[[^]]+\])?"
    # Label names stay in their braces, which belong to the match before them.
    for match in re.finditer(pattern, plain):
        function, name, selector, window = match.groups()
        if name.lower() in _NOT_METRICS:
            continue
        labels = tuple(label for label, _ in _LABEL.findall(selector or ""))
        found.append(Series(name=name, labels=labels, range_function=(function or "") if window else ""))
    return tuple(found)


def grouping_labels(expression: str) -> set[str]:
    """The labels in by, without, on and ignoring."""
    return {word.strip() for match in _GROUPING.findall(expression) for word in match.split(",")}


def expressions_of_rules(text: str) -> dict[str, str]:
    """`record:` or `alert:` and a number to `expr:`, of a rule file in the layout of ours."""
    found: dict[str, str] = {}
    name = ""
    lines = iter(text.splitlines())
    for line in lines:
        if match := re.match(r"\s+- (?:record|alert): (\S+)", line):
            name = match[1]
        elif match := re.match(r"(\s+)expr: (.*)", line):
            text = match[2]
            if text == ">-":
                text = ""
                for line in lines:
                    if not line.startswith(match[1] + "  "):
                        break
                    text += line.strip() + " "
            found[f"{name} {len(found)}"] = text
    return found
