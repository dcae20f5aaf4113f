"""A merged view as the body of a comment, a note, a check run or a job summary.

The text is that of `markdown`, with a table of the runners after its first two lines: the verdict, and what to do. The
rest has a byte budget, and what does not fit is counted.
"""

from dataclasses import replace

from cgroup_preflight.core.report import Status
from cgroup_preflight.report import markdown as markdown_format
from cgroup_preflight.report.escape import code, prose
from cgroup_preflight.report.headline import headline
from cgroup_preflight.report.markdown import VERDICT_MARKS, Budget, MarkdownSection
from cgroup_preflight.report.merge import Merged, Row, some

#: Columns that a phone can show next to the names.
_COLUMNS_MAX = 5
#: The table of runners may use a third of the bytes.
_SHARE = 3
_MARKS = {
    Status.FAIL: "❌", Status.UNVERIFIED: "⚠️", Status.WARN: "🟡", Status.PASS: "✅", Status.SKIP: "⏭️", None: "–",
}  # fmt: skip


def render(merged: Merged, *, limit: int = markdown_format.LIMIT, note: str = "") -> str:
    """The body in at most `limit` bytes of UTF-8; `note` is a foreign sentence for the last line.

    Raises ValueError for a limit below three times `markdown_format.LIMIT_MIN`.
    """
    foot = f"\n<sub>{prose(note, 300)}</sub>\n" if note else ""
    if merged.count == 1:
        return markdown_format.render(merged.report, limit=limit - _size(foot), runners=merged.runners) + foot
    table = _runners(merged, limit // _SHARE)
    # Each runner's own job summary has its services; here they would move the findings far down.
    shown = replace(merged.report, services=())
    text = markdown_format.render(shown, limit=limit - _size(table) - _size(foot), runners=merged.runners)
    verdict, todo, rest = text.split("\n", 2)
    return "\n".join([verdict, todo, table, rest.lstrip("\n")]) + foot


def _size(text: str) -> int:
    return len(text.encode("utf-8"))


def title(merged: Merged) -> str:
    """The headline of the view, for places that show one plain line without Markdown."""
    return headline(merged.report, merged.runners)


def _runners(merged: Merged, limit: int) -> str:
    counts = ", ".join(f"{mark} {merged.verdicts[item]} {item.value}" for item, mark in VERDICT_MARKS.items()
                       if merged.verdicts.get(item))  # fmt: skip
    budget = Budget(f"\n**{merged.count} {merged.noun}s:** {counts}{_differ(merged)}\n", limit=max(limit, 2000))
    shown = merged.codes[:_COLUMNS_MAX]
    head = f"\n| {merged.noun.capitalize()} |{''.join(f' {code(name, 20)} |' for name in shown)}\n|---|{'---|' * len(shown)}\n"
    rows = (_row(row, len(shown)) for row in merged.rows)
    budget.add(MarkdownSection(name=f"rows of {merged.noun}s", head=head, count=len(merged.rows), rows=rows))
    return budget.text()


def _differ(merged: Merged) -> str:
    more = len(merged.codes) - _COLUMNS_MAX
    columns = f" The table has the first {_COLUMNS_MAX} of {len(merged.codes)} checks." if more > 0 else ""
    if len(merged.rows) == 1:
        return f". All have the same results.{columns}"
    return f". Checks with different results come first.{columns}"


def _row(row: Row, columns: int) -> str:
    names = ", ".join(code(name, 60) for name in some(row.names))
    many = f" ({len(row.names)})" if len(row.names) > 1 else ""
    cells = "".join(f" {_MARKS[cell]} |" for cell in row.cells[:columns])
    return f"| {VERDICT_MARKS[row.verdict]} {names}{many} |{cells}\n"
