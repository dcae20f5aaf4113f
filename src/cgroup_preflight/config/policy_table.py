"""Reads what changes findings: `fail_on`, `warn_on` and `ignore` of `[policy]`, and the comments that ignore a line."""

import re
from collections.abc import Iterator
from typing import Any, cast

from cgroup_preflight.config.policy_keys import REASON_MAX, parse_ignored_code, parse_reason
from cgroup_preflight.config.tables import Mistakes, read_table
from cgroup_preflight.config.toml_lines import Comment, comments, locate_each
from cgroup_preflight.core import codes
from cgroup_preflight.core.policy import Ignore, Rules
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.report import Location, Remedy, Status

_MARK = "cgroup-preflight:"
_COMMENT = re.compile(rf"#\s*{_MARK}\s*ignore\b[ \t]*(?P<code>\S*)\s*(?P<reason>.*)")
#: More than a person has reasons for.
_IGNORES_MAX = 1000
_PATH = ("policy", "ignore")


def read_rules(raw: object, text: str, mistakes: Mistakes) -> Rules:
    """The rules of the file, whose `[policy]` is `raw` and whose text is `text`; `mistakes` gets what is wrong."""
    # What is wrong with the table itself is known: it was read before for its thresholds.
    table = read_table("policy", ("policy",), raw, Mistakes(mistakes.file, mistakes.lines))
    fail_on, warn_on = (frozenset(cast("tuple[str, ...]", table[name].value if name in table else ()))
                        for name in ("fail_on", "warn_on"))  # fmt: skip
    for code in sorted(fail_on & warn_on):
        mistakes.add(
            codes.BAD_VALUE, ("policy", "warn_on"), f"warn_on: {code} is also in fail_on", "keep it in one of the two"
        )
    entries = raw.get("ignore", []) if isinstance(raw, dict) else []
    numbered = Mistakes(mistakes.file, {**mistakes.lines, **locate_each(text, _PATH)} if entries else {})
    ignores = (*_entries(entries, numbered), *_comments(text, mistakes))
    mistakes.findings += numbered.findings
    if len(ignores) > _IGNORES_MAX:
        mistakes.add(
            codes.BAD_VALUE, ("policy", "ignore"), f"ignore: {len(ignores)} exceptions", f"use at most {_IGNORES_MAX}"
        )
    listed = ((code, table[name].location) for name, found in (("fail_on", fail_on), ("warn_on", warn_on))
              for code in sorted(found))  # fmt: skip
    return Rules(
        fail_on=fail_on, warn_on=warn_on, ignores=ignores,
        named=(*listed, *((item.code, item.location) for item in ignores)),
        machine_warnings=bool(table["machine_warnings"].value) if "machine_warnings" in table else False,
    )  # fmt: skip


def _entries(entries: object, mistakes: Mistakes) -> Iterator[Ignore]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        mistakes.add(codes.WRONG_TYPE, _PATH, "ignore is not a list of tables",
                     "write [[policy.ignore]] with two brackets on each side, and its keys below it")  # fmt: skip
        return
    for number, entry in enumerate(entries, 1):
        at = (*_PATH, str(number))
        before = len(mistakes.findings)
        table = read_table("policy.ignore", at, entry, mistakes)
        if len(mistakes.findings) == before:
            values: dict[str, Any] = {name: item.value for name, item in table.items()}
            yield Ignore(**values, location=mistakes.at(at))


def _comments(text: str, mistakes: Mistakes) -> Iterator[Ignore]:
    for comment in comments(text) if _MARK in text else ():
        found = _COMMENT.match(comment.text)
        if found is not None:
            location = Location(file=mistakes.file, line=comment.line)
            try:
                yield _ignore(found, comment, location)
            except QuantityError as error:
                mistakes.findings.append(codes.BAD_VALUE.finding(
                    Status.FAIL, "comment", f"the comment that ignores a finding: {error}"[: REASON_MAX],
                    Remedy(title=f"write # {_MARK} ignore CODE REASON, with {error.hint}"), location=location,
                ))  # fmt: skip


def _ignore(found: re.Match[str], comment: Comment, location: Location) -> Ignore:
    """What a comment ignores. Raises QuantityError."""
    return Ignore(
        code=parse_ignored_code(found["code"]),
        reason=parse_reason(found["reason"]),
        location=location,
        line=comment.about,
    )
