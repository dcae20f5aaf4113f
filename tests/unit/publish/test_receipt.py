"""The receipt: how a channel ends, which line fixes it, and what a report and a file say of it."""

import threading

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.publish.clock import RequestClock
from cgroup_preflight.publish.github import hints as github_hints
from cgroup_preflight.publish.gitlab import hints as gitlab_hints
from cgroup_preflight.publish.http import Answer, ForgeError, Trouble
from cgroup_preflight.publish.receipt import (
    CODES,
    Delivery,
    Outcome,
    Receipt,
    document,
    lines,
    undelivered,
    with_receipt,
    without_receipt,
)
from tests.unit.report.samples import finding, report


def _error(trouble=Trouble.STATUS, status=0, *, method="POST", path="/x", ambiguous=False, excerpt="", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = Answer(status=status, headers=named, excerpt=excerpt)
    return ForgeError(trouble, method=method, path=path, answer=answer, ambiguous=ambiguous)


def _ends(error):
    def channel():
        raise error

    receipt = Receipt()
    receipt.run("comment", channel)
    (outcome,) = receipt.outcomes
    return outcome


def _channel(delivery, name="comment", **more):
    return Outcome(channel=name, delivery=delivery, **more)


@pytest.mark.parametrize(("error", "detail"), [
    (_error(status=403), "POST /x: refused"),
    (_error(Trouble.SERVER, 500, ambiguous=True), "POST /x: server error; the server may have done it anyway"),
    (_error(Trouble.CONTENT, 200, excerpt="<p>", content_type="text/html; charset=x"),
     "POST /x: not an API answer, the answer (text/html) begins: <p>"),
    (_error(Trouble.STATUS, 418, excerpt="tea"), "POST /x: refused, the answer (no content type) begins: tea"),
    (_error(Trouble.SERVER, 502, excerpt="bad gateway", content_type="text/plain"),
     "POST /x: server error, the answer (text/plain) begins: bad gateway"),
    (_error(Trouble.LIMIT, 429, excerpt="slow down"), "POST /x: rate limit"),
    (ImportError("no", name="requests"), "cannot import requests"),
    (KeyError("secret"), "the client library failed on the answer (KeyError)"),
])  # fmt: skip
def test_an_exception_becomes_an_outcome(error, detail):
    outcome = _ends(error)
    assert (outcome.channel, outcome.delivery, outcome.detail) == ("comment", Delivery.FAILED, detail)
    assert outcome.status == getattr(error, "status", None)


def test_long_and_hostile_answers_are_one_short_line():
    outcome = _ends(_error(Trouble.CONTENT, 200, path="/" + "p" * 500, excerpt="::error::\x1b[31m\n" + "e" * 500,
                           content_type="t" * 100))  # fmt: skip
    assert len(outcome.detail) < 500
    assert "\x1b" not in outcome.detail
    assert "\n" not in outcome.detail


def test_a_missing_library_says_how_to_install_it():
    assert _ends(ImportError("no", name="requests")).hint == "pip install --force-reinstall cgroup-preflight"
    assert _ends(_error(status=403)).hint == ""


def test_tokens_are_hidden_in_every_text():
    receipt = Receipt(lambda text: text.replace("token", "***"))
    receipt.add(_channel(Delivery.FAILED, detail="a token", hint="token b", url="https://token/"))
    (outcome,) = receipt.outcomes
    assert (outcome.detail, outcome.hint, outcome.url) == ("a ***", "*** b", "https://***/")


def test_channels_share_the_time_that_is_left():
    now, shares = [0.0], {}

    def channel(name, takes):
        def run(seconds):
            shares[name] = seconds
            now[0] += takes
            return _channel(Delivery.DELIVERED, name)

        return run

    receipt = Receipt()
    receipt.run_timed(
        {"check run": channel("check run", 10.0), "comment": channel("comment", 500.0), "note": channel("note", 1.0)},
        seconds=60.0, clock=RequestClock(monotonic=lambda: now[0]), hint=lambda error, name: "",
    )  # fmt: skip
    # A second less than its share: a channel that gives up by itself can say what it waited for.
    assert shares == {"check run": 19.0, "comment": 24.0, "note": 24.0}
    assert [item.channel for item in receipt.outcomes] == ["check run", "comment", "note"]


def test_a_channel_that_does_not_end_is_abandoned():
    stop = threading.Event()
    receipt = Receipt()

    def endless(_seconds):
        stop.wait(60)
        return _channel(Delivery.DELIVERED)

    receipt.run_timed({"comment": endless}, seconds=0.1, clock=RequestClock(), hint=lambda error, name: "")
    stop.set()
    assert [(item.delivery, item.detail) for item in receipt.outcomes] == [(Delivery.FAILED, "no result after 0 s")]


def test_a_failing_channel_gets_the_hint_of_its_name():
    receipt = Receipt()

    def refused(_seconds):
        raise _error(status=403)

    receipt.run_timed(
        {"check run": refused}, seconds=9, clock=RequestClock(), hint=lambda error, name: f"{name} {error.status}"
    )
    assert receipt.outcomes[0].hint == "check run 403"


def test_what_strict_does_not_accept():
    outcomes = [_channel(item) for item in Delivery]
    assert [item.delivery for item in undelivered(outcomes)] == [Delivery.DEGRADED, Delivery.FAILED]


def test_the_receipt_as_findings():
    outcomes = [_channel(Delivery.FAILED, "check run x", detail="d", hint="h", url="https://u/", status=403),
                _channel(Delivery.SKIPPED, "log commands")]  # fmt: skip
    made = report(finding(Status.FAIL))
    told = with_receipt(made, outcomes)
    first, second = told.findings[len(made.findings):]  # fmt: skip
    assert (first.code, first.name, first.status, first.subject) == (
        "CGP605",
        "publish-check-run",
        Status.WARN,
        "check run x",
    )
    assert first.evidence == {"delivery": "failed", "http_status": 403, "url": "https://u/"}
    assert [item.title for item in first.remedies] == ["h"]
    assert (second.code, second.status, second.message) == ("CGP602", Status.SKIP, "skipped")
    assert second.evidence == {"delivery": "skipped"}
    assert second.remedies == ()
    assert without_receipt(told) == made
    assert told.verdict is made.verdict


@pytest.mark.parametrize(("delivery", "status"), [
    (Delivery.DELIVERED, Status.PASS), (Delivery.UNCHANGED, Status.PASS), (Delivery.SKIPPED, Status.SKIP),
    (Delivery.DEGRADED, Status.WARN), (Delivery.FAILED, Status.WARN),
])  # fmt: skip
def test_a_receipt_is_a_warning_at_worst(delivery, status):
    assert with_receipt(report(), [_channel(delivery)]).findings[0].status is status


def test_a_failure_under_one_of_our_codes_is_no_receipt():
    """No receipt has it, so somebody else wrote it; dropped, it would take the reason of the verdict away."""
    made = report(finding(Status.FAIL, code="CGP605"), finding(Status.PASS, code="CGP608"))
    assert without_receipt(made) is made
    assert {item.code for item in CODES.values()} == {f"CGP60{number}" for number in range(1, 8)}


def test_the_receipt_on_a_terminal_and_in_a_file():
    outcomes = [
        _channel(Delivery.FAILED, detail="d", hint="h", url="u", status=403),
        _channel(Delivery.UNCHANGED, "note"),
    ]
    assert lines(outcomes) == ["failed    comment: d (HTTP 403) u", "          next: h", "unchanged note: done"]
    assert document(outcomes) == [
        {"channel": "comment", "delivery": "failed", "detail": "d", "hint": "h", "url": "u", "http_status": 403},
        {"channel": "note", "delivery": "unchanged", "detail": "", "hint": "", "url": "", "http_status": None},
    ]


@pytest.mark.parametrize(("error", "channel", "said"), [
    (_error(status=401), "comment", "the token is not valid or has expired; pass ${{ github.token }}"),
    (_error(status=403), "check run x", "permissions: { checks: write }"),
    (_error(status=404), "comment", "permissions: { pull-requests: write }"),
    (_error(status=403, x_accepted_github_permissions="issues=write; pull_requests=write"), "comment", "{ pull-requests: write }"),
    (_error(status=403, x_accepted_github_permissions="contents=read"), "comment", "{ contents: read }"),
    (_error(status=422), "comment", ""),
    (_error(Trouble.LIMIT, 403), "comment", "GitHub limits the number of requests"),
    (_error(Trouble.MOVED, 302), "comment", "set GITHUB_API_URL to the address that GitHub redirects to"),
    (_error(Trouble.CUT), "comment", ""),
])  # fmt: skip
def test_hints_for_github(error, channel, said):
    hint = github_hints.hint(error, channel)
    assert said in hint
    assert bool(said) is bool(hint)


@pytest.mark.parametrize(("error", "said"), [
    (_error(status=401), "the token is not valid or has expired; create a project access token with the scope api"),
    (_error(status=403, excerpt='{"error": "insufficient_scope"}'), "may not write notes here; it lacks the scope api; create"),
    (_error(status=403), "may not write notes here; create a project access token"),
    (_error(status=404), "may not write notes here; create a project access token"),
    (_error(status=422), ""),
    (_error(Trouble.LIMIT, 403), "GitLab limits the number of requests"),
    (_error(Trouble.UNREACHABLE), "check that this job can reach CI_SERVER_URL"),
    (_error(Trouble.CONTENT, 200), "between this job and CI_SERVER_URL"),
    (_error(Trouble.TLS), "CGROUP_PREFLIGHT_CA_FILE"),
    (_error(Trouble.CA_FILE), "REQUESTS_CA_BUNDLE"),
])  # fmt: skip
def test_hints_for_gitlab(error, said):
    hint = gitlab_hints.hint(error, "note")
    assert said in hint
    assert bool(said) is bool(hint)
