"""The receipt: each channel of a publication runs on its own, and the receipt says how it ended.

A failed channel becomes an `Outcome` with a hint how to fix it. It stops no other channel and never changes the verdict.
"""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from cgroup_preflight.core import codes
from cgroup_preflight.core.report import Finding, Remedy, Report, Status
from cgroup_preflight.publish.clock import RequestClock, run_within
from cgroup_preflight.publish.http import ForgeError, Trouble
from cgroup_preflight.report.annotations import no_command
from cgroup_preflight.report.escape import clip, plain

#: The code of each channel's finding, by the first word of the channel's name.
CODES = {
    "report": codes.PUBLISH_FILES, "log": codes.PUBLISH_LOG, "summary": codes.PUBLISH_SUMMARY,
    "outputs": codes.PUBLISH_OUTPUTS, "check": codes.PUBLISH_CHECK_RUN,
    "comment": codes.PUBLISH_COMMENT, "note": codes.PUBLISH_NOTE,
}  # fmt: skip
#: A channel gives up this much before its time is over, so that it can say what it waited for; seconds, and at most a
#: quarter of its time.
_SPARE = 1.0


class Delivery(enum.StrEnum):
    """How one channel ended."""

    DELIVERED = "delivered"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    DEGRADED = "degraded"
    FAILED = "failed"


_STATUSES = {
    Delivery.DELIVERED: Status.PASS, Delivery.UNCHANGED: Status.PASS, Delivery.SKIPPED: Status.SKIP,
    Delivery.DEGRADED: Status.WARN, Delivery.FAILED: Status.WARN,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one channel ended.

    `detail` says what was done or why not, `hint` what fixes it (empty if unknown or not needed), `url` where the
    result can be seen, `status` is the HTTP status of the answer that decided.
    """

    channel: str
    delivery: Delivery
    detail: str = ""
    hint: str = ""
    url: str = ""
    status: int | None = None


Channel = Callable[[], Outcome]
#: A channel that sends requests; it gets the seconds that it may use.
TimedChannel = Callable[[float], Outcome]
#: What fixes an error in a channel of that name; empty if unknown.
Hint = Callable[[ForgeError, str], str]


class Receipt:
    """Runs channels one after the other and keeps their outcomes, in order; `hide` removes tokens from a text."""

    def __init__(self, hide: Callable[[str], str] = str) -> None:
        self.outcomes: list[Outcome] = []
        self._hide = hide

    def add(self, outcome: Outcome) -> None:
        """Adds one outcome, without tokens: an answer can repeat the headers of the request."""
        detail, hint, url = (self._hide(text) for text in (outcome.detail, outcome.hint, outcome.url))
        self.outcomes.append(replace(outcome, detail=detail, hint=hint, url=url))

    def run(self, name: str, channel: Channel) -> None:
        """Runs one channel; an exception becomes an outcome."""
        self.add(_run(name, channel, _no_hint))

    def run_timed(
        self, channels: Mapping[str, TimedChannel], *, seconds: float, clock: RequestClock, hint: Hint
    ) -> None:
        """Runs channels that send requests, all within `seconds`; each gets an equal share of the time that is left."""
        for number, (name, channel) in enumerate(channels.items()):
            share, began = seconds / (len(channels) - number), clock.monotonic()
            self.add(_run_within(share, name, channel, hint))
            seconds -= min(share, clock.monotonic() - began)


def _no_hint(_error: ForgeError, _channel: str) -> str:
    return ""


def _run_within(share: float, name: str, channel: TimedChannel, hint: Hint) -> Outcome:
    ended: list[Outcome] = []
    own = share - min(_SPARE, share / 4)
    run_within(share, lambda: ended.append(_run(name, lambda: channel(own), hint)))
    late = f"no result after {share:.0f} s"
    return ended[0] if ended else Outcome(channel=name, delivery=Delivery.FAILED, detail=late)


def _run(name: str, channel: Channel, hint: Hint) -> Outcome:
    failed = Outcome(channel=name, delivery=Delivery.FAILED)
    try:
        return channel()
    except ForgeError as error:
        return replace(failed, detail=_detail(error), hint=hint(error, name), status=error.status)
    except ImportError as error:
        return replace(
            failed, detail=f"cannot import {error.name}", hint="pip install --force-reinstall cgroup-preflight"
        )
    except Exception as error:  # noqa: BLE001 - a client library may fail on any answer; no verdict depends on it
        # Only the kind: the text may quote an answer or a header.
        return replace(failed, detail=f"the client library failed on the answer ({type(error).__name__})")


def _detail(error: ForgeError) -> str:
    """What happened, with the beginning of the answer; one line without control characters."""
    said = ""
    if error.trouble in (Trouble.CONTENT, Trouble.SERVER, Trouble.STATUS) and error.answer.excerpt:
        kind = clip(error.answer.header("content-type").partition(";")[0], 40) or "no content type"
        said = f", the answer ({kind}) begins: {clip(error.answer.excerpt, 160)}"
    unsure = "; the server may have done it anyway" if error.ambiguous else ""
    return no_command(plain(f"{error.method} {clip(error.path, 120)}: {error.trouble.value}{unsure}{said}"))


def general_hint(error: ForgeError, *, server: str, address: str) -> str:
    """What fixes an error that is the same on every server; `address` is the variable that holds its URL."""
    hints = {
        Trouble.LIMIT: f"{server} limits the number of requests; publish once for all legs: "
                       "cgroup-preflight publish a.json b.json ...",
        Trouble.TLS: "set CGROUP_PREFLIGHT_CA_FILE to the CA's certificate (PEM)",
        Trouble.CA_FILE: "set CGROUP_PREFLIGHT_CA_FILE, CI_SERVER_TLS_CA_FILE or REQUESTS_CA_BUNDLE to an existing "
                         "file in PEM format",
        Trouble.MOVED: f"set {address} to the address that {server} redirects to (https, no gateway in between)",
        Trouble.LARGE: f"check which server answers at {address}; or delete the comments that fill its lists",
        Trouble.CONTENT: f"check whether a proxy or a log-in page answers between this job and {address}",
        Trouble.UNREACHABLE: f"check that this job can reach {address}; the proxy comes from HTTPS_PROXY and NO_PROXY",
    }  # fmt: skip
    return hints.get(error.trouble, "")


def undelivered(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """Those that `--publish strict` does not accept: failed, or delivered in part."""
    return tuple(item for item in outcomes if item.delivery in (Delivery.FAILED, Delivery.DEGRADED))


def with_receipt(report: Report, outcomes: Iterable[Outcome]) -> Report:
    """The report with one finding for each outcome: a warning at worst, so that the verdict stays."""
    return replace(report, findings=(*report.findings, *map(_delivered, outcomes)))


def without_receipt(report: Report) -> Report:
    """The report without the receipt of an earlier publication."""
    ours = {item.code for item in CODES.values()}
    kept = tuple(item for item in report.findings if item.code not in ours or item.status not in _STATUSES.values())
    return report if len(kept) == len(report.findings) else replace(report, findings=kept)


def _delivered(item: Outcome) -> Finding:
    code = CODES[item.channel.split(" ")[0]]
    evidence = {"delivery": item.delivery.value, "http_status": item.status, "url": item.url}
    return code.finding(
        _STATUSES[item.delivery], item.channel, item.detail or item.delivery.value,
        *((Remedy(title=item.hint),) if item.hint else ()),
        evidence={key: value for key, value in evidence.items() if value not in (None, "")},
    )  # fmt: skip


def lines(outcomes: Iterable[Outcome]) -> list[str]:
    """The receipt for a terminal or a log: one line for each channel, and one for its hint."""
    text = []
    for item in outcomes:
        status = f" (HTTP {item.status})" if item.status else ""
        url = f" {item.url}" if item.url else ""
        text.append(f"{item.delivery.value:<9} {item.channel}: {item.detail or 'done'}{status}{url}")
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
