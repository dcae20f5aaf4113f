"""A check run on the head commit: a POST creates it completed, a PATCH of the output adds further annotations.

Status and conclusion of a check run from a workflow can no longer be changed (GitHub changelog, 2025-02-12), so a
PATCH has only `output`. `external_id`, which the creator may set, identifies our check runs.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from cgroup_preflight.core.report import Origin
from cgroup_preflight.publish.answers import id_of, text_of, url_of
from cgroup_preflight.publish.clock import RequestClock
from cgroup_preflight.publish.comment import OWN_KEY
from cgroup_preflight.publish.comment_state import RunId
from cgroup_preflight.publish.github.api import GithubApi
from cgroup_preflight.publish.http import ForgeError
from cgroup_preflight.publish.receipt import Delivery, Outcome
from cgroup_preflight.report.annotations import Annotation

#: Bytes; GitHub accepts 65,535 characters.
SUMMARY_MAX = 65_000
#: Key, run, attempt, number of the job (earlier versions have none), identity of the leg, and what it shows.
_ID = re.compile(
    r"cgroup-preflight:([A-Za-z0-9._-]{1,64}):(\d{1,18})\.(\d{1,18})(?:\.(\d{1,18}))?:([0-9a-f]{8,24}):([0-9a-f]{16})",
    re.ASCII,
)
#: The conclusions in the order of the verdicts.
_WORST_FIRST = ("failure", "action_required", "neutral", "success")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRun:
    """What to show; `batches` have at most 50 annotations each, and the first one goes with the POST.

    `server` is the URL of GitHub for people: only addresses there are shown.
    """

    name: str
    key: str
    origin: Origin
    sha: str
    conclusion: str
    title: str
    summary: str
    batches: list[list[Annotation]]
    details_url: str = ""
    server: str = ""

    @property
    def digest(self) -> str:
        """A hash of everything that a reader sees."""
        seen = json.dumps([self.conclusion, self.title, self.summary, self.batches], sort_keys=True)
        return hashlib.sha256(seen.encode("utf-8", "backslashreplace")).hexdigest()[:16]

    @property
    def run(self) -> RunId:
        """The run and the attempt that the result is from."""
        return RunId(run=self.origin.run, attempt=self.origin.attempt)

    @property
    def external_id(self) -> str:
        """Identifies the check run, the job that created it and what it shows."""
        run = f"{self.origin.run}.{self.origin.attempt}.{self.origin.job_id}"
        return f"cgroup-preflight:{self.key}:{run}:{self.origin.id}:{self.digest}"


def publish(api: GithubApi, check: CheckRun, clock: RequestClock) -> Outcome:
    """Creates the check run, unless it exists. Raises ForgeError."""
    channel = f"check run {check.name}"
    for attempt in (1, 2, 3):
        known = _known(api, check)
        own = max((item for item in known if _is_ours(item, check)), default=None, key=lambda item: item.run)
        if own and check.run.run and own.run > check.run:
            return Outcome(channel=channel, delivery=Delivery.SKIPPED,
                           detail=f"run {own.run.run}, newer than this run ({check.run.run}), has reported")  # fmt: skip
        if own and own.digest == check.digest:
            if attempt > 1:
                return Outcome(channel=channel, delivery=Delivery.DELIVERED, url=own.url,
                               detail="created, although the answer was lost")  # fmt: skip
            return Outcome(
                channel=channel, delivery=Delivery.UNCHANGED, detail="already shows this result", url=own.url
            )
        if worse := next((item for item in known if _is_worse(item, check)), None):
            return Outcome(channel=channel, delivery=Delivery.SKIPPED, url=worse.url,
                           detail=f"another job of this run has reported {worse.conclusion}",
                           hint=OWN_KEY)  # fmt: skip
        try:
            return _create(api, check, channel)
        except ForgeError as error:
            # It may have been created: look for it before creating it again.
            if not error.ambiguous or error.method != "POST" or attempt == 3:
                raise
            clock.sleep(float(attempt))
    raise AssertionError("unreachable: the last attempt returns or raises")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    run: RunId
    job_id: int
    leg: str
    digest: str
    conclusion: str
    url: str


def _known(api: GithubApi, check: CheckRun) -> list[_Known]:
    """Our check runs of this name on this commit."""
    found = []
    for item in api.items(f"/commits/{check.sha}/check-runs", "check_runs", check_name=check.name, filter="latest"):
        match = _ID.fullmatch(text_of(item.get("external_id")))
        if match and match[1] == check.key:
            found.append(_Known(
                run=RunId(run=int(match[2]), attempt=int(match[3])), job_id=int(match[4] or 0), leg=match[5],
                digest=match[6], conclusion=text_of(item.get("conclusion")),
                url=url_of(item.get("html_url"), check.server),
            ))  # fmt: skip
    return found


def _is_ours(known: _Known, check: CheckRun) -> bool:
    """Whether it is from this leg; two jobs with one identity in one attempt are two legs."""
    same_job = known.job_id == check.origin.job_id or known.run != check.run
    return known.leg == check.origin.id and same_job


def _is_worse(known: _Known, check: CheckRun) -> bool:
    """Whether another job of the same run has reported something worse under this name."""
    if not check.run.run or known.run.run != check.run.run or _is_ours(known, check):
        return False
    if known.conclusion not in _WORST_FIRST:
        return False
    return _WORST_FIRST.index(known.conclusion) < _WORST_FIRST.index(check.conclusion)


def _create(api: GithubApi, check: CheckRun, channel: str) -> Outcome:
    head = {"name": check.name, "head_sha": check.sha, "status": "completed", "conclusion": check.conclusion,
            "external_id": check.external_id}  # fmt: skip
    if check.details_url:
        head["details_url"] = check.details_url
    output: dict[str, object] = {"title": check.title, "summary": check.summary}
    refused: ForgeError | None = None
    try:
        made = api.one("POST", "/check-runs", {**head, "output": output | {"annotations": check.batches[0]}})
    except ForgeError as error:
        if error.status != 422:
            raise
        # GitHub may refuse an annotation, for example for its path; the check run is created without them.
        refused = error
        made = api.one("POST", "/check-runs", {**head, "output": output})
    url = url_of(made.get("html_url"), check.server)
    if refused is not None:
        return Outcome(channel=channel, delivery=Delivery.DEGRADED, url=url, status=422,
                       detail="created without annotations, because GitHub refused them")  # fmt: skip
    return _rest(api, check, made, output, Outcome(channel=channel, delivery=Delivery.DELIVERED, url=url))


def _rest(api: GithubApi, check: CheckRun, made: dict[str, Any], output: dict[str, object], done: Outcome) -> Outcome:
    """Adds the other batches; after a failure the check run keeps those before it."""
    for number, batch in enumerate(check.batches[1:], 2):
        try:
            # GitHub adds the annotations of each update to the earlier ones.
            api.one("PATCH", f"/check-runs/{id_of(made.get('id')) or 0}", {"output": output | {"annotations": batch}})
        except ForgeError as error:
            shown = 50 * (number - 1)
            return Outcome(channel=done.channel, delivery=Delivery.DEGRADED, url=done.url, status=error.status,
                           detail=f"created with only the first {shown} annotations: {error.trouble.value}")  # fmt: skip
    count = sum(len(batch) for batch in check.batches)
    return Outcome(
        channel=done.channel, delivery=done.delivery, url=done.url, detail=f"created with {count} annotations"
    )
