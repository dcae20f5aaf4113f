"""The command itself: what it refuses, what it costs to start, and where it works without a forge."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import cgroup_preflight
from cgroup_preflight.checks.pages import PAGES
from cgroup_preflight.cli import COMMANDS, guard
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.publish.comment_state import RunId, State, decode, encode, fitted
from cgroup_preflight.publish.forges import detect
from cgroup_preflight.publish.origin import JobId, LegId, origin_of
from cgroup_preflight.publish.receipt import CODES as OURS
from cgroup_preflight.publish.secret import Secret, read_tokens, redact, secret
from cgroup_preflight.report.merge import Leg
from tests.unit.publish.jobs import FAIL, PASS, fleet, write_report


@pytest.mark.starts_processes
def test_other_commands_and_help_load_no_client():
    program = """
import sys
from cgroup_preflight.cli import main
main(["--help"])
for words in (["publish", "--help"], ["check", "--help"]):
    try:
        main(words)
    except SystemExit:
        pass
found = {"github", "gitlab", "requests", "nacl", "jwt"} & set(sys.modules)
assert not found, found
"""
    source = str(Path(cgroup_preflight.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={"PYTHONPATH": source}
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("words", "said"), [
    (["absent.json"], "absent.json: cannot read"), (["--key", "a b", "r.json"], "not a valid key"),
    (["--deadline", "0", "r.json"], "not a number of seconds"), (["--pull-request", "7; id", "r.json"], "digits only"),
    (["--leg", "x", "r.json", "s.json"], "--leg needs exactly one report"), (["--provider", "github", "r.json"], "GITHUB_REPOSITORY"),
    (["--provider", "gitlab", "r.json"], "CI_SERVER_URL"),
])  # fmt: skip
def test_wrong_calls(call, tmp_path, words, said):
    for name in ("r.json", "s.json"):
        write_report(tmp_path / name)
    with pytest.raises(UsageError) as caught:
        call({}, *words)
    assert said in f"{caught.value} {caught.value.remedy.title}"
    assert "; id" not in str(caught.value)


def test_a_report_that_is_none_ends_with_two(tmp_path, capsys):
    (tmp_path / "x.json").write_text('{"schema_version": 99}')
    assert guard.run_command(["publish", str(tmp_path / "x.json")]) == 2
    assert (
        "schema_version is 99, newer than the 1 that this version reads: update cgroup-preflight"
        in capsys.readouterr().err
    )


def test_without_a_forge_it_merges(call, tmp_path, capsys):
    write_report(tmp_path / "a.json", PASS)
    write_report(tmp_path / "b.json", FAIL)
    words = ["a.json", "b.json", "--format", "json=all.json", "--format", "markdown=all.md", "--files", "out"]
    assert call({}, *words, "--fail-on", "unverified") == 1
    assert json.loads((tmp_path / "all.json").read_text())["verdict"] == "fail"
    assert "| ✅ <code>a</code> |" in (tmp_path / "all.md").read_text()
    assert (tmp_path / "out" / "junit.xml").is_file()
    assert call({}, "all.json") == 0


def test_providers():
    assert detect({}) is None
    assert detect({"GITLAB_CI": "false", "GITHUB_ACTIONS": "1"}) is None
    with pytest.raises(UsageError, match="like GitHub and like GitLab"):
        detect({"GITLAB_CI": "true", "GITHUB_ACTIONS": "true"})


@pytest.mark.parametrize("address", ["foo", "file:///etc/passwd", "https://u:p@host/", "http://"])
def test_addresses_that_are_none(address):
    with pytest.raises(UsageError, match="GITHUB_API_URL is not the URL"):
        detect({"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "o/r", "GITHUB_API_URL": address})
    with pytest.raises(UsageError, match="CI_SERVER_URL"):
        detect({"GITLAB_CI": "true", "CI_PROJECT_ID": "1", "CI_SERVER_URL": address})


def test_an_event_that_cannot_be_read(tmp_path):
    (tmp_path / "event").write_text("[" * 10)
    with pytest.raises(UsageError, match="event file"):
        detect({"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "o/r", "GITHUB_EVENT_PATH": str(tmp_path / "event")})


def test_tokens_do_not_show():
    token = secret(" abcdefgh\n")
    assert repr(token) == "Secret(***)"
    assert redact("x abcdefgh y", [token, Secret("ab")]) == "x *** y"
    assert secret("") is secret("two words") is secret("a\nb") is None


@pytest.mark.starts_processes
def test_tokens_come_by_stdin_instead(tmp_path):
    assert read_tokens(["GITLAB_TOKEN=a=b\n", "CI_JOB_TOKEN=\n"]) == {"GITLAB_TOKEN": "a=b", "CI_JOB_TOKEN": ""}
    for lines in (["abcdefgh"], ["A=1", ""], ["a=1"], ["A=" + "x" * 3000], ["A=1"] * 17):
        with pytest.raises(UsageError, match="is not NAME=TOKEN") as caught:
            read_tokens(lines)
        assert "abcdefgh" not in str(caught.value)
    # The token is known: it is removed from what is written.
    write_report(tmp_path / "report.json", PASS)
    words = [
        "-m",
        "cgroup_preflight",
        "publish",
        "--token-stdin",
        str(tmp_path / "report.json"),
        "--leg",
        "glpat-sentinel",
    ]
    done = subprocess.run([sys.executable, *words], input="GITLAB_TOKEN=glpat-sentinel\n", capture_output=True, text=True,
                          check=False, timeout=60, env={"PYTHONPATH": str(Path(cgroup_preflight.__file__).parents[1])})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "sentinel" not in done.stdout + done.stderr


def _origin(number):
    job = JobId(workflow="ci.yml", name="leg", run=RunId(run=7, attempt=2), id=10**11 + number * 7919)
    return origin_of(job, LegId(matrix=f'{{"n": {number}}}', index=number + 1, total=256))


def test_states_come_back_and_stay_small():
    legs = tuple(
        Leg(name=f"leg {number} <!-- -->", report=replace(made, origin=_origin(number)))
        for number, made in enumerate(fleet(256, 20))
    )
    state = fitted(State(key="k", run=RunId(run=7, attempt=2), sha="1" * 40, legs=legs))
    line = encode(state)
    assert len(line) <= 24_000
    assert line.count("-->") == 1
    back = decode(f"text\n{line}\n", "k")
    assert back == state
    assert len(back.legs) == 256
    assert decode(line, "other") is None
    assert decode(f"> {line}", "k") is None


@pytest.mark.parametrize("text", ["eJw=", "AAAA", "eJyrrgUAAXUA+Q==", "eJzLSM3JyVcozy/KSVHIKMnMK8lILSpWyCwGAGqpCJ0="])
def test_broken_states_are_none(text):
    assert decode(f"<!-- cgroup-preflight:v1 key=k {text} -->", "k") is None


def test_codes_are_in_the_reference():
    assert set(OURS.values()) <= set(PAGES)
    assert "publish" in COMMANDS
