"""The comment round by round: what other writers do meanwhile happens while this one sleeps."""

from dataclasses import replace

import pytest

from cgroup_preflight.core.report import Status, Verdict
from cgroup_preflight.publish import forges
from cgroup_preflight.publish.clock import Outside, RequestClock
from cgroup_preflight.publish.comment_state import RunId, State, decode, encode, fitted
from cgroup_preflight.publish.options import Options, Results, view
from cgroup_preflight.publish.origin import LegId
from cgroup_preflight.publish.receipt import Delivery
from cgroup_preflight.report.markdown import LIMIT
from cgroup_preflight.report.merge import Leg
from tests.contract.forge import github as gh
from tests.unit.publish.jobs import FAIL, PASS, github_env
from tests.unit.report.samples import finding, report

BOT = "github-actions[bot]"
OTHER = report(finding(Status.FAIL, subject="other"))


class Job:
    """A job on the server; `slept` has its pauses, and `meanwhile` is done in each of them."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.slept = []

    def comment(self, made, *, leg="", run=100, attempt=1, name="one", meanwhile=None, **options):
        """The outcome of the comment after `made` was published."""
        env = github_env(
            self.server, self.folder, GITHUB_JOB=name, GITHUB_RUN_ID=str(run), GITHUB_RUN_ATTEMPT=str(attempt)
        )
        legs = (Leg(name=leg or "report", report=made),)
        self.slept = []

        def sleep(seconds):
            self.slept.append(seconds)
            if meanwhile:
                meanwhile()

        receipt = forges.publish(
            forges.detect(env),
            Results(legs=legs, merged=view(legs)),
            Options(check=False, leg=LegId(name=leg), **options),
            Outside(say=str, clock=RequestClock(sleep=sleep)),
        )
        return next(item for item in receipt.outcomes if item.channel == "comment")


@pytest.fixture
def job(github, tmp_path):
    return Job(github, tmp_path)


def _body(job, made, **more):
    """What a job of that kind would have written."""
    kept, job.server.comments = job.server.comments, []
    job.comment(made, comment="always", **more)
    (item,), job.server.comments = job.server.comments, kept
    return item["body"]


def test_a_comment_that_was_written_is_looked_at_once_more(github, job):
    for number, made in ((100, FAIL), (101, OTHER)):
        assert job.comment(made, run=number).delivery is Delivery.DELIVERED
        (pause,) = job.slept
        assert 3.0 <= pause <= 4.5
    unchanged = job.comment(OTHER, run=102)
    assert job.slept == []
    assert unchanged.delivery is Delivery.UNCHANGED
    assert unchanged.url == github.comments[0]["html_url"]
    assert [line.split()[0] for line in github.writes() if "comments" in line] == ["POST", "PATCH"]


def test_a_leg_waits_longer_before_it_looks(job):
    assert job.comment(FAIL, leg="a", settle=4.0).delivery is Delivery.DELIVERED
    (pause,) = job.slept
    assert 4.0 <= pause <= 6.0
    assert job.comment(FAIL, leg="b", settle=4.0).delivery is Delivery.DELIVERED
    (pause,) = job.slept
    assert 4.0 <= pause <= 6.0


def test_short_pauses_stay_short(job):
    job.comment(FAIL, settle=0.5)
    assert 0.5 <= job.slept[0] <= 0.75


def test_line_ends_of_the_server_are_no_change(github, job):
    job.comment(FAIL)
    github.comments[0]["body"] = github.comments[0]["body"].replace("\n", "\r\n")
    assert job.comment(FAIL, run=101).delivery is Delivery.UNCHANGED


def test_of_two_first_comments_the_older_one_stays(github, job):
    first = _body(job, OTHER, run=99)

    def rival():
        if len(job.slept) == 1:
            github.add_comment(first, BOT)

    outcome = job.comment(FAIL, meanwhile=rival)
    assert outcome.delivery is Delivery.DELIVERED
    (left,) = github.comments
    assert outcome.url == left["html_url"]
    assert decode(left["body"], "default").run.run == 100
    assert left["id"] == 1000


def test_a_newer_run_in_the_second_of_our_comments_counts(github, job):
    """The comments of two runs that found nothing at the same time: the newer result is in the second one."""
    old, new = _body(job, FAIL, run=100), _body(job, OTHER, run=200)
    github.add_comment(old, BOT)
    github.add_comment(new, BOT)
    outcome = job.comment(PASS, run=150)
    assert outcome.delivery is Delivery.SKIPPED
    assert outcome.detail == "run 200, newer than this run (150), has reported"
    assert [item["body"] for item in github.comments] == [old, new]


def test_a_worse_job_in_the_second_of_our_comments_counts(github, job):
    github.add_comment(_body(job, FAIL, run=99, name="one"), BOT)
    github.add_comment(_body(job, FAIL, run=100, name="`two`"), BOT)
    assert job.comment(PASS, run=100, name="three").delivery is Delivery.DELIVERED
    (left,) = github.comments
    assert left["body"].startswith("## ❌ cgroup-preflight FAIL on 2 of 3 runners")
    assert "**3 runners:** ❌ 2 fail, ✅ 1 pass" in left["body"]


def test_a_section_that_another_leg_overwrote_is_restored(github, job):
    other = _body(job, PASS, leg="other")

    def rival():
        if len(job.slept) == 1:
            github.comments[0]["body"] = other

    outcome = job.comment(FAIL, leg="mine", meanwhile=rival)
    assert outcome.delivery is Delivery.DELIVERED
    assert [leg.name for leg in decode(github.comments[0]["body"], "default").legs] == ["mine", "other"]
    assert "**2 runners:** ❌ 1 fail, ✅ 1 pass" in github.comments[0]["body"]
    assert len(job.slept) == 2


def test_a_section_of_an_earlier_attempt_is_not_ours(github, job):
    earlier = _body(job, PASS, leg="mine", attempt=1)

    def rival():
        if len(job.slept) == 1:
            github.comments[0]["body"] = earlier

    job.comment(FAIL, leg="mine", attempt=2, meanwhile=rival)
    (leg,) = decode(github.comments[0]["body"], "default").legs
    assert (leg.report.origin.attempt, leg.report.verdict) == (2, Verdict.FAIL)


def test_sections_of_another_run_are_left_out(github, job):
    job.comment(FAIL, leg="gone", run=99)
    job.comment(FAIL, leg="mine", run=100)
    assert [leg.name for leg in decode(github.comments[0]["body"], "default").legs] == ["mine"]


def test_sections_of_two_comments_are_joined_in_the_older_one(github, job):
    github.add_comment(_body(job, FAIL, leg="a"), BOT)
    github.add_comment(_body(job, PASS, leg="b"), BOT)
    assert job.comment(PASS, leg="c").delivery is Delivery.DELIVERED
    (left,) = github.comments
    assert left["id"] == 1000
    assert [leg.name for leg in decode(left["body"], "default").legs] == ["a", "b", "c"]


def test_writers_without_end_are_given_up_on(github, job):
    bodies = {True: _body(job, PASS, leg="x"), False: _body(job, PASS, leg="y")}

    def rival():
        github.comments[0]["body"] = bodies[len(job.slept) % 2 == 0]

    outcome = job.comment(FAIL, leg="mine", meanwhile=rival)
    assert outcome.delivery is Delivery.DEGRADED
    assert outcome.detail == "written, but other jobs wrote to the same comment in each of 12 rounds"
    assert outcome.hint.startswith("publish once, after all legs")
    assert outcome.url == github.comments[0]["html_url"]
    assert len(job.slept) == 12


def test_a_newer_run_that_appears_meanwhile_wins(github, job):
    newer = _body(job, OTHER, run=101)

    def rival():
        github.comments[0]["body"] = newer

    outcome = job.comment(FAIL, meanwhile=rival)
    assert (outcome.delivery, github.comments[0]["body"]) == (Delivery.SKIPPED, newer)


def test_a_comment_that_is_deleted_again_and_again_is_an_error(github, job):
    job.comment(FAIL)
    github.fail(method="PATCH", path="comments", status=404, times=1)
    assert job.comment(OTHER, run=101).delivery is Delivery.DELIVERED
    assert job.slept[0] == 1.0
    github.fail(method="PATCH", path="comments", status=404, times=2)
    outcome = job.comment(FAIL, run=102)
    assert (outcome.delivery, outcome.status) == (Delivery.FAILED, 404)
    assert "permissions: { pull-requests: write }" in outcome.hint


def test_a_double_that_another_job_deletes_is_no_error(github, job):
    github.add_comment(_body(job, FAIL), BOT)
    github.add_comment(_body(job, FAIL), BOT)
    github.fail(method="DELETE", status=404)
    assert job.comment(FAIL, run=101).delivery is Delivery.DELIVERED
    github.add_comment(_body(job, FAIL), BOT)
    github.fail(method="DELETE", status=403)
    outcome = job.comment(OTHER, run=102)
    assert (outcome.delivery, outcome.status) == (Delivery.FAILED, 403)


def test_a_head_that_cannot_be_read_costs_no_comment(github, job):
    github.fail(method="GET", path="pulls/7$", status=404)
    assert job.comment(FAIL).delivery is Delivery.DELIVERED
    github.pulls[7]["head"] = {"sha": None}
    assert job.comment(OTHER, run=101).delivery is Delivery.DELIVERED
    github.pulls[7]["head"] = {"sha": gh.OTHER_SHA}
    outcome = job.comment(FAIL, run=102)
    assert outcome.delivery is Delivery.SKIPPED
    assert outcome.detail == "the branch is now at 222222222222; this result is for 111111111111"


def test_a_comment_names_its_commit_and_stays_below_the_limit(github, job):
    long = report(*(finding(Status.FAIL, subject=f"s{number}", message="m" * 900) for number in range(200)))
    for leg in ("", "a"):
        github.comments.clear()
        job.comment(long, leg=leg)
        body = github.comments[0]["body"]
        assert f"\n<sub>Last change at <code>{gh.SHA[:12]}</code>.</sub>\n\n<!-- cgroup-preflight:v1 " in body
        assert len(body.encode()) <= LIMIT


def test_a_pass_says_why_there_is_no_comment(github, job):
    outcome = job.comment(PASS)
    assert outcome.delivery is Delivery.SKIPPED
    assert outcome.detail == "the result is a pass, and there is no earlier comment to update"
    assert github.comments == []


@pytest.mark.parametrize(("baseline", "created"), [
    (PASS, 0), (FAIL, 1), (replace(PASS, findings=(*PASS.findings, finding(Status.WARN))), 1),
    (replace(PASS, findings=(*PASS.findings, finding(Status.PASS, code="CGP101"))), 0),
])  # fmt: skip
def test_a_pass_that_differs_from_the_target_branch_is_worth_a_comment(github, job, baseline, created):
    legs = (Leg(name="report", report=PASS),)
    env = github_env(github, job.folder)
    forges.publish(
        forges.detect(env),
        Results(legs=legs, merged=view(legs), baseline=baseline),
        Options(check=False),
        Outside(say=str, clock=RequestClock(sleep=lambda _seconds: None)),
    )
    assert len(github.comments) == created


def test_a_mark_of_an_unknown_author_is_not_ours(github, job):
    """A deleted account: GitHub names no author, and its GraphQL may name none for the token either."""
    github.add_comment(_body(job, FAIL), "")
    github.login = ""
    github.fail(path="graphql", body='{"data": {"viewer": null}}', status=200)
    job.comment(FAIL, run=101)
    assert len(github.comments) == 2


def test_a_state_without_legs_is_replaced_by_one_with(github, job):
    state = fitted(State(key="default", run=RunId(run=100, attempt=1), sha=gh.SHA, job="one"))
    github.add_comment(f"old\n{encode(state)}", BOT)
    job.comment(FAIL, leg="a")
    assert [leg.name for leg in decode(github.comments[0]["body"], "default").legs] == ["a"]


def test_what_is_unverified_is_worth_a_comment(github, job):
    assert job.comment(report(finding(Status.UNVERIFIED))).delivery is Delivery.DELIVERED
    assert github.comments[0]["body"].startswith("## ⚠️")
