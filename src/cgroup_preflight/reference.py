"""The page of each code, for `explain` and for docs/reference: one source, two places."""

from cgroup_preflight.checks import CHECKS
from cgroup_preflight.checks.runner import load_check
from cgroup_preflight.codes import CODES, Code


def known_codes() -> dict[str, str]:
    """Every code with its name, in order."""
    names = {code: module.replace("_", "-") for code, module in CHECKS.items()}
    return {**names, **{item.code: item.name for item in CODES}}


def page(code: str) -> Code:
    """The text of one code. Raises KeyError for one that does not exist."""
    if code in CHECKS:
        check = load_check(code)
        return Code(code=code, name=check.name, worst=check.severity.value, what=check.what, why=check.why,
                    remedy=check.remedy, sources=check.sources)  # fmt: skip
    return {item.code: item for item in CODES}[code]


def explain(code: str) -> str:
    """The page for a terminal."""
    item = page(code)
    parts = [
        f"{item.code} {item.name} (at worst: {item.worst})",
        f"What    {item.what}", f"Why     {item.why}", f"Remedy  {item.remedy}",
        "Sources " + "\n        ".join(item.sources),
    ]  # fmt: skip
    return "\n\n".join(_wrapped(part) for part in parts) + "\n"


def _wrapped(text: str) -> str:
    import textwrap

    if text.startswith("Sources"):
        return text
    return textwrap.fill(text, width=100, subsequent_indent=" " * 8)


def markdown(code: str) -> str:
    """The page for docs/reference."""
    item = page(code)
    sources = "\n".join(f"- <{source}>" for source in item.sources)
    return (
        f"# {item.code} {item.name}\n\nAt worst: **{item.worst}**\n\n## What\n\n{item.what}\n\n## Why\n\n{item.why}\n\n"
        f"## Remedy\n\n{item.remedy}\n\n## Sources\n\n{sources}\n"
    )
