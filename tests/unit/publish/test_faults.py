"""What forges and networks do wrong, one after the other: bounded, reported, never a verdict, never a double."""

import socket
import time
from email.utils import formatdate

import pytest

from tests.contract.forge import github as gh
from tests.contract.forge.server import ECHO
from tests.unit.publish.jobs import FAIL, github_env, gitlab_env, write_report

NOTES = "/projects/42/merge_requests/5/notes$"


@pytest.fixture
def env(github, tmp_path):
    return github_env(github, tmp_path)


@pytest.fixture
def failing(tmp_path):
    return write_report(tmp_path / "report.json", FAIL)


@pytest.mark.parametrize(
    "fault",
    [
        {"method": "GET", "status": 502},
        {"method": "GET", "status": 500, "times": 2},
        {"method": "GET", "kind": "cut"},
        {"method": "GET", "kind": "half"},
        {"method": "POST", "status": 429, "headers": {"Retry-After": "0"}},
        {"method": "POST", "status": 409},
        {"method": "POST", "status": 403, "headers": {"Retry-After": "0"}},
        {"method": "POST", "status": 429, "headers": {"Retry-After": formatdate(time.time() + 1, usegmt=True)}},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values())[:30],
)
def test_passing_trouble_is_waited_out(github, env, call, failing, fault):
    github.fail(**fault)
    assert call(env, failing, "--publish", "strict") == 0
    assert (len(github.checks), len(github.comments)) == (1, 1)


@pytest.mark.parametrize("path", ["check-runs$", "comments$"])
@pytest.mark.parametrize("kind", ["lost", "cut"])
def test_a_post_without_an_answer_is_looked_for_not_repeated(github, env, call, failing, path, kind):
    github.fail(method="POST", path=path, kind=kind)
    assert call(env, failing, "--publish", "strict") == 0
    assert (len(github.checks), len(github.comments)) == (1, 1)
    if kind == "lost":
        assert len([line for line in github.writes() if line.startswith("POST") and line.endswith(path[:-1])]) == 1


@pytest.mark.parametrize(
    "fault",
    [{"status": 502}, {"kind": "cut"}, {"status": 200, "body": "<p>", "headers": {"Content-Type": "text/html"}}],
)
def test_who_the_token_is_may_be_asked_again(github, env, call, failing, fault):
    call(env, failing)
    github.fail(path="graphql", **fault)
    html = "body" in fault
    assert call(env | {"GITHUB_RUN_ID": "101"}, failing, "--publish", "strict", "--check", "off") == (5 if html else 0)
    assert len(github.comments) == 1
    assert len(github.graphql) == (0 if html else 1)


@pytest.mark.parametrize(("words", "delivery", "status"), [((), "delivered", 0), (("--leg", "one"), "degraded ", 5)])
def test_what_was_written_is_not_called_failed(gitlab, tmp_path, call, failing, capsys, words, delivery, status):
    gitlab.fail(method="GET", path=NOTES, skip=1, times=99, status=403)
    assert call(gitlab_env(gitlab, tmp_path), failing, "--publish", "strict", *words) == status
    assert len(gitlab.notes) == 1
    assert f"{delivery} note: written, but reading it again failed: refused (HTTP 403)" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("--leg", "one")])
def test_a_list_that_lags_behind_makes_no_double(github, env, call, failing, words):
    github.fail(method="GET", path="comments$", times=3, body="[]", status=200)
    assert call(env, failing, "--publish", "strict", "--check", "off", *words) == 0
    assert len(github.comments) == 1


def test_a_note_without_an_answer_is_looked_for(gitlab, tmp_path, call, failing):
    gitlab.fail(method="POST", path=NOTES, kind="lost")
    assert call(gitlab_env(gitlab, tmp_path), failing, "--publish", "strict") == 0
    assert len(gitlab.notes) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 401, "body": '{"message": "Bad credentials"}'}, "the token is not valid"),
        ({"status": 404, "body": '{"message": "Not Found"}'}, "permissions: { checks: write }"),
        (
            {"status": 403, "body": '{"message": "no"}', "headers": {"x-accepted-github-permissions": "checks=read"}},
            "checks: read",
        ),
        ({"status": 500, "times": 99}, "server error"),
        ({"status": 429, "headers": {"Retry-After": "3600"}}, "rate limit"),
        ({"status": 403, "body": "You have exceeded a secondary rate limit"}, "rate limit"),
        (
            {"status": 200, "body": "<!DOCTYPE html><p>Log in", "headers": {"Content-Type": "text/html"}},
            "the answer (text/html) begins: <!DOCTYPE",
        ),
        ({"status": 200, "body": "null"}, "not an API answer"),
        ({"status": 200, "body": "[1, 2]"}, "not an API answer"),
        ({"status": 302, "headers": {"Location": "https://evil.example/"}}, "redirect to another address"),
        ({"kind": "cut", "times": 99}, "connection lost"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_lasting_trouble_is_said(github, env, call, failing, capsys, fault, said):
    github.fail(path="check-runs", **fault)
    started = time.monotonic()
    assert call(env, failing, "--publish", "strict", "--deadline", "4") == 5
    assert time.monotonic() - started < 7
    told = capsys.readouterr().err
    assert said in told
    assert "delivered comment" in told


def test_a_slow_answer_is_in_time_or_not(github, env, call, failing):
    github.fail(method="GET", kind="slow", seconds=0.3)
    assert call(env, failing, "--publish", "strict") == 0
    github.fail(method="GET", kind="slow", seconds=3, times=9)
    assert call(env | {"GITHUB_RUN_ID": "101"}, failing, "--publish", "strict", "--deadline", "0.4") == 5


def test_a_comment_that_was_removed_is_made_anew(github, env, call, failing):
    call(env, failing)
    github.fail(method="PATCH", path="comments", status=404, body='{"message": "Not Found"}')
    other = write_report(
        env_folder(env) / "other.json",
        FAIL.__class__(**{name: getattr(FAIL, name) for name in FAIL.__slots__} | {"findings": FAIL.findings[:1]}),
    )
    assert call(env | {"GITHUB_RUN_ID": "101"}, other, "--publish", "strict") == 0
    assert len(github.comments) == 1


def env_folder(env):
    from pathlib import Path

    return Path(env["GITHUB_EVENT_PATH"]).parent


def test_a_token_that_comes_back_is_not_shown(github, env, call, failing, capsys, tmp_path):
    github.fail(path="check-runs", status=500, body=f"<html>{ECHO}\n::error::x\x1b[31m@everyone", times=99)
    github.fail(path="comments", status=418, body=f'{{"message": "{ECHO} ##[add-mask]x"}}', times=99)
    call(
        env,
        failing,
        "--deadline",
        "2",
        "--receipt",
        str(tmp_path / "delivery.json"),
        "--format",
        f"json={tmp_path / 'all.json'}",
    )
    told = capsys.readouterr()
    whole = told.out + told.err + "".join(path.read_text() for path in tmp_path.iterdir())
    assert gh.TOKEN not in whole
    assert "***" in told.err
    assert "\x1b" not in told.err
    assert "##[" not in told.err
    assert not any(line.lstrip().startswith("::") for line in told.err.splitlines())


def test_nobody_listens(env, call, failing, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    closed = f"http://127.0.0.1:{port}/api/v3"
    assert call(env | {"GITHUB_API_URL": closed}, failing, "--publish", "strict", "--deadline", "2") == 5
    told = capsys.readouterr().err
    assert "server not reachable" in told
    assert "check that this job can reach GITHUB_API_URL" in told


def test_a_proxy_with_a_password_stays_out_of_messages(env, call, failing, capsys, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://user:sesame@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    assert call(env, failing, "--publish", "strict", "--deadline", "2") == 5
    assert "sesame" not in capsys.readouterr().err
