"""What became of each way of telling the result: the receipt.

A channel never raises for what a forge does: it answers with an Outcome, and none of them changes the verdict.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cgroup_preflight.core.report import Finding, Remedy, Report, Status


class Delivery(enum.StrEnum):
    """How one channel ended."""

    DELIVERED = "delivered"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One channel's line of the receipt.

    `detail` says what was done or why not, `hint` the very line that would mend it (empty where there is none),
    `url` where the result can be seen, `status` the HTTP status of the answer that decided.
    """

    channel: str
    delivery: Delivery
    detail: str = ""
    hint: str = ""
    url: str = ""
    status: int | None = None


#: Code and name of the findings that a receipt becomes, by channel family (the part before the first blank).
CODES = {
    "report": ("CGP601", "publish-files"), "log": ("CGP602", "publish-log"), "summary": ("CGP603", "publish-summary"),
    "outputs": ("CGP604", "publish-outputs"), "check": ("CGP605", "publish-check-run"),
    "comment": ("CGP606", "publish-comment"), "note": ("CGP607", "publish-note"),
}  # fmt: skip
_STATUSES = {
    Delivery.DELIVERED: Status.PASS, Delivery.UNCHANGED: Status.PASS, Delivery.SKIPPED: Status.SKIP,
    Delivery.DEGRADED: Status.WARN, Delivery.FAILED: Status.WARN,
}  # fmt: skip


def undelivered(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """Those that `--publish strict` does not accept: tried, and not or not wholly there."""
    return tuple(item for item in outcomes if item.delivery in (Delivery.FAILED, Delivery.DEGRADED))


def findings(outcomes: Iterable[Outcome]) -> tuple[Finding, ...]:
    """The receipt in the words of the report; a warning at worst, so that no verdict follows from it."""
    return tuple(_finding(item) for item in outcomes)


def with_receipt(report: Report, outcomes: Iterable[Outcome]) -> Report:
    """The report with the receipt in it."""
    return replace(report, findings=(*report.findings, *findings(outcomes)))


def without_receipt(report: Report) -> Report:
    """The report without the receipt of an earlier delivery, which says nothing about this one."""
    ours = {code for code, _ in CODES.values()}
    harmless = (Status.PASS, Status.SKIP, Status.WARN)
    kept = tuple(item for item in report.findings if item.code not in ours or item.status not in harmless)
    return report if len(kept) == len(report.findings) else replace(report, findings=kept)


def _finding(item: Outcome) -> Finding:
    code, name = CODES[item.channel.split(" ")[0]]
    evidence = {"delivery": item.delivery.value, "http_status": item.status, "url": item.url}
    return Finding(
        code=code, name=name, status=_STATUSES[item.delivery], subject=item.channel,
        message=item.detail or item.delivery.value,
        evidence={key: value for key, value in evidence.items() if value not in (None, "")},
        remedies=(Remedy(title=item.hint),) if item.hint else (),
    )  # fmt: skip


def lines(outcomes: Iterable[Outcome]) -> list[str]:
    """The receipt for a terminal or a log, two lines at most for each channel."""
    text = []
    for item in outcomes:
        status = f" (HTTP {item.status})" if item.status else ""
        where = f" {item.url}" if item.url else ""
        text.append(f"{item.delivery.value:<9} {item.channel}: {item.detail or 'done'}{status}{where}")
        if item.hint:
            text.append(f"          next: {item.hint}")
    return text


def document(outcomes: Iterable[Outcome]) -> list[dict[str, object]]:
    """The receipt as plain data, for a file."""
    return [
        {"channel": item.channel, "delivery": item.delivery.value, "detail": item.detail, "hint": item.hint,
         "url": item.url, "http_status": item.status}
        for item in outcomes
    ]  # fmt: skip
