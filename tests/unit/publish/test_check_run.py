"""The check run: its conclusion, its place among those of other jobs and runs, and what a failing API leaves of it."""

import re

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.publish import forges
from cgroup_preflight.publish.clock import Outside, RequestClock
from cgroup_preflight.publish.options import Options, Results, view
from cgroup_preflight.publish.origin import LegId
from cgroup_preflight.publish.receipt import Delivery
from cgroup_preflight.report.merge import Leg
from tests.contract.forge import github as gh
from tests.unit.publish.jobs import FAIL, PASS, github_env
from tests.unit.report.samples import finding, report

UNVERIFIED = report(finding(Status.UNVERIFIED))


@pytest.fixture
def send(github, tmp_path):
    """`send(report)`: the outcome of the check run; `slept` has the pauses."""

    def run(made, *, name="one", number=100, attempt=1, job="", leg="", env=None, **options):
        environ = github_env(
            github, tmp_path, GITHUB_JOB=name, GITHUB_RUN_ID=str(number), GITHUB_RUN_ATTEMPT=str(attempt),
            CGROUP_PREFLIGHT_JOB_ID=job,
        )  # fmt: skip
        legs = (Leg(name=leg or "report", report=made),)
        run.slept = []
        receipt = forges.publish(
            forges.detect(environ | (env or {})),
            Results(legs=legs, merged=view(legs)),
            Options(comment="never", leg=LegId(name=leg), **options),
            Outside(say=str, clock=RequestClock(sleep=run.slept.append)),
        )
        return next(item for item in receipt.outcomes if item.channel.startswith("check run"))

    return run


def _many(count):
    return report(*(finding(Status.FAIL, subject=f"s{number}") for number in range(count)))


@pytest.mark.parametrize(("made", "options", "conclusion"), [
    (PASS, {}, "success"), (FAIL, {}, "failure"), (UNVERIFIED, {}, "action_required"),
    (UNVERIFIED, {"allow_unverified": True}, "neutral"), (FAIL, {"allow_unverified": True}, "failure"),
    (PASS, {"allow_unverified": True}, "success"),
])  # fmt: skip
def test_the_conclusion_follows_the_verdict(github, send, made, options, conclusion):
    outcome = send(made, **options)
    (check,) = github.checks
    assert (check["conclusion"], check["status"]) == (conclusion, "completed")
    assert outcome.delivery is Delivery.DELIVERED
    assert outcome.url == check["html_url"]
    assert check["details_url"] == "https://github.example/org/demo/actions/runs/100"
    assert check["output"]["title"].startswith(made.verdict.value.upper())


@pytest.mark.parametrize(("options", "name"), [
    ({"name": ""}, "cgroup-preflight"), ({}, "cgroup-preflight (one)"), ({"key": "db"}, "cgroup-preflight db (one)"),
    ({"leg": "arm"}, "cgroup-preflight (one, arm)"), ({"key": "db", "leg": "arm"}, "cgroup-preflight db (one, arm)"),
    ({"leg": "x" * 150}, f"cgroup-preflight (one, {'x' * 80} #"),
])  # fmt: skip
def test_the_name_has_key_and_leg(github, send, options, name):
    channel = send(PASS, **options).channel
    assert channel == f"check run {github.checks[0]['name']}"
    made = github.checks[0]["name"].removesuffix(")")
    assert (made[:-12] if name.endswith("#") else made) == name.removesuffix(")")
    key = options.get("key", "default")
    assert re.fullmatch(
        rf"cgroup-preflight:{key}:100\.1\.0:[0-9a-f]{{24}}:[0-9a-f]{{16}}", github.checks[0]["external_id"]
    )


def test_a_run_without_a_number_has_no_page(github, send):
    send(PASS, env={"GITHUB_RUN_ID": ""})
    assert "details_url" not in github.checks[0]


def test_without_a_commit_there_is_none(github, send):
    outcome = send(FAIL, env={"GITHUB_EVENT_NAME": "schedule", "GITHUB_SHA": "x"})
    assert (outcome.delivery, outcome.detail) == (Delivery.SKIPPED, "the event names no commit")
    assert github.calls == []


def test_the_same_result_is_not_sent_again(github, send):
    first = send(FAIL)
    again = send(FAIL, number=101)
    assert (again.delivery, again.detail, again.url) == (Delivery.UNCHANGED, "already shows this result", first.url)
    assert send(_many(2), number=101).detail == "created with 2 annotations"
    assert len(github.checks) == 2


def test_an_older_run_is_skipped_and_a_run_without_a_number_is_not(github, send):
    send(FAIL, number=200)
    outcome = send(PASS, number=199)
    assert (outcome.delivery, len(github.checks)) == (Delivery.SKIPPED, 1)
    assert outcome.detail == "run 200, newer than this run (199), has reported"
    assert send(PASS, number=200, attempt=0).delivery is Delivery.SKIPPED
    assert send(PASS, env={"GITHUB_RUN_ID": ""}).delivery is Delivery.DELIVERED


@pytest.mark.parametrize(("first", "second", "created"), [
    (FAIL, PASS, False), (FAIL, UNVERIFIED, False), (UNVERIFIED, PASS, False),
    (PASS, FAIL, True), (PASS, UNVERIFIED, True), (UNVERIFIED, FAIL, True), (FAIL, _many(2), True),
])  # fmt: skip
def test_of_two_jobs_with_one_identity_the_worse_result_stays(github, send, first, second, created):
    """A workflow that one run calls twice: its jobs differ in their numbers only."""
    send(first, job="1")
    outcome = send(second, job="2")
    assert len(github.checks) == (2 if created else 1)
    if not created:
        assert outcome.delivery is Delivery.SKIPPED
        assert outcome.url == github.checks[0]["html_url"]
        assert outcome.detail == f"another job of this run has reported {github.checks[0]['conclusion']}"
        assert "--key" in outcome.hint
    github.checks = github.checks[:1]
    assert send(second, job="3", attempt=2).delivery is Delivery.DELIVERED
    github.checks = github.checks[:1]
    assert send(second, job="4", number=101).delivery is Delivery.DELIVERED


@pytest.mark.parametrize("order", [(FAIL, PASS), (PASS, FAIL)])
def test_two_jobs_have_a_check_run_each(github, send, order):
    for name, made in zip(("one", "two"), order, strict=True):
        assert send(made, name=name).delivery is Delivery.DELIVERED
    assert sorted(item["name"] for item in github.checks) == ["cgroup-preflight (one)", "cgroup-preflight (two)"]


def test_a_check_run_of_an_earlier_version_is_read(github, send):
    send(FAIL)
    github.checks[0]["external_id"] = f"cgroup-preflight:default:100.1:{'0' * 8}:{'1' * 16}"
    assert send(PASS).detail == "another job of this run has reported failure"
    assert send(PASS, number=101).delivery is Delivery.DELIVERED


def test_runs_without_a_number_do_not_outrank_each_other(github, send):
    send(FAIL, job="1", env={"GITHUB_RUN_ID": ""})
    assert send(PASS, job="2", env={"GITHUB_RUN_ID": ""}).delivery is Delivery.DELIVERED


def test_a_conclusion_that_is_not_ours_does_not_count(github, send):
    send(FAIL, job="1")
    github.checks[0]["conclusion"] = "stale"
    assert send(PASS, job="2").delivery is Delivery.DELIVERED


@pytest.mark.parametrize(
    "external", [None, "", "other:default:999.1:0:0", "cgroup-preflight:other:999.1:00000000:0000000000000000"]
)
def test_check_runs_of_others_and_of_other_keys_do_not_count(github, send, external):
    send(FAIL)
    github.checks[0]["external_id"] = external
    assert send(FAIL).delivery is Delivery.DELIVERED
    assert len(github.checks) == 2


def test_the_newest_of_ours_counts(github, send):
    send(PASS, number=101)
    send(FAIL, number=102)
    github.checks.reverse()
    assert send(_many(2), number=101).detail == "run 102, newer than this run (101), has reported"


def test_a_lost_answer_is_looked_for(github, send):
    github.fail(method="POST", path="check-runs$", kind="lost")
    outcome = send(FAIL)
    assert (outcome.delivery, outcome.detail) == (Delivery.DELIVERED, "created, although the answer was lost")
    assert send.slept == [1.0]
    assert len(github.checks) == 1


def test_three_lost_posts_are_an_error_that_says_so(github, send):
    github.fail(method="POST", path="check-runs$", status=500, times=9)
    outcome = send(FAIL)
    assert (outcome.delivery, outcome.status) == (Delivery.FAILED, 500)
    assert "server error; the server may have done it anyway" in outcome.detail
    assert send.slept == [1.0, 2.0]
    assert len([line for line in github.writes() if line.endswith("check-runs")]) == 3


def test_a_refused_post_is_not_repeated(github, send):
    github.lacks = {"checks"}
    assert send(FAIL).status == 403
    assert (len(github.writes()), send.slept) == (1, [])


def test_refused_annotations_are_left_out(github, send):
    github.fail(method="POST", path="check-runs$", status=422)
    outcome = send(_many(60))
    assert (outcome.delivery, outcome.status) == (Delivery.DEGRADED, 422)
    assert outcome.url == github.checks[0]["html_url"]
    assert "annotations" not in github.checks[0]["output"]
    assert len(github.writes()) == 2  # no further annotations either
    github.fail(method="POST", path="check-runs$", status=422, times=2)
    assert send(FAIL, number=101).delivery is Delivery.FAILED


def test_a_batch_that_fails_keeps_those_before_it(github, send):
    github.fail(method="PATCH", path="check-runs", skip=1, status=403)
    outcome = send(_many(160))
    assert outcome.delivery is Delivery.DEGRADED
    assert outcome.detail == "created with only the first 100 annotations: refused"
    assert (outcome.status, outcome.url) == (403, github.checks[0]["html_url"])
    assert len(github.checks[0]["annotations"]) == 100


def test_all_batches_arrive_once(github, send):
    assert send(_many(160)).detail == "created with 160 annotations"
    assert len(github.checks[0]["annotations"]) == 160
    assert [call.path for call in github.calls if call.method == "PATCH"] == ["/repos/org/demo/check-runs/500"] * 3


def test_the_digest_covers_what_a_reader_sees(github, send):
    """The same text with another conclusion is another check run."""
    send(UNVERIFIED)
    assert send(UNVERIFIED, number=101).delivery is Delivery.UNCHANGED
    assert send(UNVERIFIED, number=101, allow_unverified=True).delivery is Delivery.DELIVERED


def test_only_check_runs_of_this_commit_and_name_are_read(github, send):
    send(FAIL)
    (read,) = [call for call in github.calls if call.method == "GET"]
    assert read.path == f"/repos/org/demo/commits/{gh.SHA}/check-runs"
    assert read.query == {"check_name": "cgroup-preflight (one)", "filter": "latest", "per_page": "100", "page": "1"}
