"""What became of each way of telling the result: the receipt.

A channel never raises for what a forge does: it answers with an Outcome, and none of them changes the verdict.

From what a forge refused to the very line that mends it: pure.

Runs channels one after the other and writes down what became of each; nothing that happens in one stops another.
"""

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from cgroup_preflight.core import codes
from cgroup_preflight.core.report import Finding, Remedy, Report, Status
from cgroup_preflight.publish.clock import Clock, run_within
from cgroup_preflight.publish.http import ForgeError, Trouble
from cgroup_preflight.report.annotations import no_command
from cgroup_preflight.report.escape import clip, plain


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


#: Code of the findings that a receipt becomes, by channel family (the part before the first blank).
CODES = {
    "report": codes.PUBLISH_FILES, "log": codes.PUBLISH_LOG, "summary": codes.PUBLISH_SUMMARY,
    "outputs": codes.PUBLISH_OUTPUTS, "check": codes.PUBLISH_CHECK_RUN,
    "comment": codes.PUBLISH_COMMENT, "note": codes.PUBLISH_NOTE,
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
    return tuple(_delivered(item) for item in outcomes)


def with_receipt(report: Report, outcomes: Iterable[Outcome]) -> Report:
    """The report with the receipt in it."""
    return replace(report, findings=(*report.findings, *findings(outcomes)))


def without_receipt(report: Report) -> Report:
    """The report without the receipt of an earlier delivery, which says nothing about this one."""
    ours = {item.code for item in CODES.values()}
    harmless = (Status.PASS, Status.SKIP, Status.WARN)
    kept = tuple(item for item in report.findings if item.code not in ours or item.status not in harmless)
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


#: `checks=write` or `issues=write; pull_requests=write` (either of both), as GitHub names what it would accept.
_ACCEPTED = re.compile(r"([a-z_]{1,40})=(read|write)", re.ASCII)
#: What each channel needs where the answer does not say it.
_GITHUB_NEEDS = {"check": "checks: write", "comment": "pull-requests: write"}
GITLAB_TOKEN = (
    "create a project access token with the scope api and the role Reporter or above, and store it as the masked CI/CD "  # noqa: S105
    "variable CGROUP_PREFLIGHT_GITLAB_TOKEN"
)
RECIPE = "to publish such runs use the workflow_run recipe, docs/workflow-run.md"


def failed(channel: str, error: ForgeError, hint: str) -> Outcome:
    """The receipt of a channel that a forge stopped."""
    return Outcome(channel=channel, delivery=Delivery.FAILED, detail=_detail(error), hint=hint, status=error.status)


def _detail(error: ForgeError) -> str:
    """What happened, with the beginning of an answer that was no API's; one line without control characters."""
    said = ""
    if error.trouble in (Trouble.CONTENT, Trouble.SERVER, Trouble.STATUS) and error.answer.excerpt:
        kind = clip(error.answer.header("content-type").partition(";")[0], 40) or "no type"
        said = f", answered with {kind}: {clip(error.answer.excerpt, 160)}"
    unsure = "; it may have been done all the same" if error.ambiguous else ""
    return no_command(plain(f"{error.method} {clip(error.path, 120)}: {error.trouble.value}{unsure}{said}"))


def github(error: ForgeError, channel: str) -> str:
    """The line to add to a workflow, or what else helps; empty where nothing is known to."""
    if error.status == 401:
        return "the token is not valid (any more); hand over ${{ github.token }}"
    if error.status in (403, 404) and error.trouble is Trouble.STATUS:
        return f"add to the job:  permissions: {{ {_permission(error, channel)} }}"
    return _general(error, "GITHUB_API_URL")


def _permission(error: ForgeError, channel: str) -> str:
    accepted = _ACCEPTED.findall(error.answer.header("x-accepted-github-permissions"))
    known = _GITHUB_NEEDS.get(channel.split(" ", maxsplit=1)[0], "")
    named = [f"{name.replace('_', '-')}: {right}" for name, right in accepted]
    # Of several that would do, the one that this tool documents is the least.
    return known if known in named or not named else named[0]


def gitlab(error: ForgeError, *, with_job_token: bool) -> str:
    """The token and scope to use, or what else helps; empty where nothing is known to."""
    if with_job_token and error.status in (401, 403, 404):
        return GITLAB_TOKEN
    if error.status == 401:
        return f"the token is not valid (any more); {GITLAB_TOKEN}"
    if error.status in (403, 404) and error.trouble is Trouble.STATUS:
        scope = "it lacks the scope api; " if "insufficient_scope" in error.answer.excerpt else ""
        return f"the token may not write notes here; {scope}{GITLAB_TOKEN}"
    return _general(error, "CI_SERVER_URL")


def _general(error: ForgeError, variable: str) -> str:
    ways = {
        Trouble.LIMIT: "the forge limits requests; publish once for all legs: publish a.json b.json ...",
        Trouble.TLS: "name the CA's certificate in CGROUP_PREFLIGHT_CA_FILE",
        Trouble.CA_FILE: "name a file in PEM format that is there: CGROUP_PREFLIGHT_CA_FILE, CI_SERVER_TLS_CA_FILE "
                         "or REQUESTS_CA_BUNDLE",
        Trouble.MOVED: f"set {variable} to the address it redirects to (https, no gateway in between)",
        Trouble.CONTENT: f"is there a proxy or a log-in page between this job and {variable}?",
        Trouble.UNREACHABLE: f"is {variable} reachable from this job? Proxies: HTTPS_PROXY, NO_PROXY",
    }  # fmt: skip
    return ways.get(error.trouble, "")


#: What the seam may overrun its own deadline by before the whole is given up, seconds.
_GRACE = 2.0
Channel = Callable[[], Outcome]
#: A channel that is told how many seconds it has.
Waiting = Callable[[float], Outcome]


class Receipt:
    """The outcomes so far, in order."""

    def __init__(self, hide: Callable[[str], str] = str) -> None:
        self.outcomes: list[Outcome] = []
        self._hide = hide

    def add(self, outcome: Outcome) -> None:
        """One more, without tokens: an answer can repeat the request's headers."""
        detail, hint, url = (self._hide(text) for text in (outcome.detail, outcome.hint, outcome.url))
        self.outcomes.append(replace(outcome, detail=detail, hint=hint, url=url))

    def attempt(self, name: str, channel: Channel, hint: Callable[[ForgeError], str] | None = None) -> None:
        """Runs `channel`; what it raises becomes an outcome."""
        self.add(_attempt(name, channel, hint))

    def attempt_all(
        self, channels: Mapping[str, Waiting], *, seconds: float, clock: Clock, hint: Callable[[ForgeError, str], str]
    ) -> None:
        """Runs channels that wait for a forge, all within `seconds`; none uses up what the later ones need."""
        for number, (name, channel) in enumerate(channels.items()):
            share, began = seconds / (len(channels) - number), clock.monotonic()
            self.add(_within(share, name, channel, hint))
            seconds -= min(share, clock.monotonic() - began)


def _within(share: float, name: str, channel: Waiting, hint: Callable[[ForgeError, str], str]) -> Outcome:
    ended: list[Outcome] = []
    run_within(
        share + _GRACE,
        lambda: ended.append(_attempt(name, lambda: channel(share), lambda error: hint(error, name))),
    )
    late = f"no end in sight after {share:.0f} s"
    return ended[0] if ended else Outcome(channel=name, delivery=Delivery.FAILED, detail=late)


def _attempt(name: str, channel: Channel, hint: Callable[[ForgeError], str] | None) -> Outcome:
    try:
        return channel()
    except ForgeError as error:
        return failed(name, error, hint(error) if hint else "")
    except ImportError as error:
        return Outcome(channel=name, delivery=Delivery.FAILED, detail=f"{error.name} cannot be imported",
                       hint="pip install --force-reinstall cgroup-preflight")  # fmt: skip
    except Exception as error:  # noqa: BLE001 - a client library that stumbles over an answer; no verdict hangs on it
        # Its kind alone: the text may quote an answer, or a header.
        return Outcome(channel=name, delivery=Delivery.FAILED,
                       detail=f"the client library did not understand the answer ({type(error).__name__})")  # fmt: skip
