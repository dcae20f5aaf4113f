"""action.yml under `act`: `uses: org/cgroup-preflight@v1` in workflows, against GitHub on loopback."""

import html
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.report import codec
from tests.clients.helpers import (
    PLAYED_CONFIG,
    ROOT,
    clean_environment,
    example,
    image_cache,
    played_inventory,
    run,
)
from tests.contract.forge import github as gh
from tests.unit.publish.jobs import FAIL, PASS, pull_event
from tests.unit.report.samples import HOSTILE, finding, report

SETUP_PYTHON = "actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97"
UNVERIFIED = report(finding(Status.UNVERIFIED, code="CGP511", name="bites"))
HOSTILE_REPORT = report(
    *[finding(Status.FAIL, subject=text or "-", message=f"x {text}") for text in HOSTILE if text.isascii()]
)
_EXTRA = pytest.mark.extra
RECORDING = ROOT / "tests" / "fixtures" / "slices" / "debian-12.json"
STUB = "name: stub\ndescription: stub\nruns: {using: composite, steps: [{run: 'exit 9', shell: bash}]}\n"


def workflow(*steps, matrix="", before=""):
    lines = [
        "on: [pull_request]",
        "permissions: {checks: write, pull-requests: write}",
        "jobs:",
        "  preflight:",
        "    runs-on: ubuntu-latest",
        *([f"    strategy: {{matrix: {matrix}}}"] if matrix else []),
        "    steps:",
        "      - uses: actions/checkout@v6",
        *([f"      - run: {json.dumps(before)}"] if before else []),
    ]
    for name, inputs in steps:
        outputs = {"O": "outcome", "V": "outputs.verdict", "F": "outputs.findings", "C": "outputs.comment-url"}
        shown = {name_: "${{ steps.%s.%s }}" % (name, field) for name_, field in outputs.items()}  # noqa: UP031
        lines += [
            f"      - id: {name}",
            "        uses: org/cgroup-preflight@v1",
            "        continue-on-error: true",
            f"        with: {json.dumps(inputs)}",
            f"      - run: 'echo \"outcome {name} $O verdict=$V findings=$F comment=$C\"'",
            f"        env: {json.dumps(shown)}",
        ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def go(act, action, github, tmp_path, project):
    """`go(steps, event=..., files=...)`: what act printed, and the outcome of each step by its id."""

    def start(
        *steps, event=None, files=None, folders=None, matrix="", text="", token=gh.TOKEN, before="", on="pull_request"
    ):
        made = text or workflow(*steps, matrix=matrix, before=before)
        folder = project({".github/workflows/ci.yml": made, **(files or {})}, folders)
        (tmp_path / "event.json").write_text(json.dumps(event or pull_event()))
        (tmp_path / "stub").mkdir()
        (tmp_path / "stub" / "action.yml").write_text(STUB)
        (tmp_path / "secrets").write_text(f"GITHUB_TOKEN={token}\n")
        variables = {
            "GITHUB_API_URL": github.api_url,
            "GITHUB_GRAPHQL_URL": f"{github.url}/api/graphql",
            "GITHUB_SERVER_URL": "https://github.example",  # that of the addresses in the answers
            "GITHUB_REPOSITORY": "org/demo",
            "GITHUB_RUN_ID": "100",
        } | ({"XDG_CACHE_HOME": image_cache()} if folders else {})
        argv = [
            act,
            on,
            "--platform",
            "ubuntu-latest=-self-hosted",
            "--platform",
            "self-hosted=-self-hosted",
            "--no-cache-server",
            "--eventpath",
            str(tmp_path / "event.json"),
            "--secret-file",
            str(tmp_path / "secrets"),
            "--local-repository",
            f"org/cgroup-preflight@v1={action}",
            "--local-repository",
            f"{SETUP_PYTHON}={tmp_path / 'stub'}",
        ]
        for name, value in variables.items():
            argv += ["--env", f"{name}={value}"]
        done = run(argv, folder, clean_environment(tmp_path))
        text = done.stdout + done.stderr
        assert gh.TOKEN not in text
        found = re.findall(r"outcome (\S+) (\w+) verdict=(\w*) findings=(\d*) comment=(\S*)", text)
        return text, {name: more for name, *more in found}

    return start


def _publish(path, **more):
    return {"target": "publish", "reports": path, "key": path.split(".")[0], **more}


def test_verdicts_on_a_pull_request(go, github):
    files = {
        f"{name}.json": codec.render(made)
        for name, made in {"pass": PASS, "fail": FAIL, "unverified": UNVERIFIED, "hostile": HOSTILE_REPORT}.items()
    }
    text, outcomes = go(
        ("pass", _publish("pass.json")), ("fail", _publish("fail.json")), ("unverified", _publish("unverified.json")),
        ("allowed", _publish("unverified.json", **{"fail-on": "fail", "key": "allowed"})),
        ("silent", _publish("fail.json", token="", key="silent", **{"fail-on": "never"})),
        ("hostile", _publish("hostile.json")), ("wrong", _publish("pass.json", comment="sometimes")),
        ("wrongversion", _publish("pass.json", version="1.0; id")), files=files,
    )  # fmt: skip
    assert {name: more[:3] for name, more in outcomes.items()} == {
        "pass": ["success", "pass", "0"], "fail": ["failure", "fail", "1"], "unverified": ["failure", "unverified", "1"],
        "allowed": ["success", "unverified", "1"], "silent": ["success", "fail", "1"],
        "hostile": ["failure", "fail", str(len(HOSTILE_REPORT.findings))], "wrong": ["failure", "", ""],
        "wrongversion": ["failure", "", ""],
    }  # fmt: skip
    assert {item["name"]: item["conclusion"] for item in github.checks} == {
        "cgroup-preflight pass (preflight)": "success", "cgroup-preflight fail (preflight)": "failure",
        "cgroup-preflight allowed (preflight)": "neutral", "cgroup-preflight unverified (preflight)": "action_required",
        "cgroup-preflight hostile (preflight)": "failure",
    }  # fmt: skip
    keys = sorted(re.search(r"v1 key=(\S+)", item["body"])[1] for item in github.comments)
    assert keys == ["allowed", "fail", "hostile", "unverified"]
    assert outcomes["fail"][3].startswith("https://github.example/org/demo/pull/7#issuecomment-")
    assert "the input comment is none of: auto, always, never" in text
    assert "the input version is not a version" in text
    assert "set-output:: name" not in text


def test_a_fork_sends_nothing_and_says_so_once(go, github):
    text, outcomes = go(
        ("fork", _publish("fail.json")),
        event=pull_event(head="stranger/demo"),
        files={"fail.json": codec.render(FAIL)},
    )
    assert outcomes["fork"] == ["failure", "fail", "1", ""]
    assert github.calls == []
    assert text.count("::notice title=cgroup-preflight::a run of a fork") == 1


def test_missing_permissions_cost_nothing(go, github):
    github.lacks = {"checks", "pull_requests"}
    text, outcomes = go(
        ("warn", _publish("pass.json", comment="always")),
        ("strict", _publish("pass.json", comment="always", publish="strict")),
        files={"pass.json": codec.render(PASS)},
    )
    assert (outcomes["warn"][0], outcomes["strict"][0]) == ("success", "failure")
    assert "permissions: { checks: write }" in text
    assert "permissions: { pull-requests: write }" in text


def test_legs_of_a_matrix_share_one_comment(go, github):
    github.latency = 0.02
    legs = {f"{name}.json": codec.render(made) for name, made in {"a": PASS, "b": FAIL, "c": PASS}.items()}
    inputs = {"target": "publish", "reports": "${{ matrix.leg }}.json", "leg": "${{ matrix.leg }}", "comment": "always"}
    go(("leg", inputs), files=legs, matrix="{leg: [a, b, c]}")
    (comment,) = github.comments
    assert "**3 runners:** ❌ 1 fail, ✅ 2 pass" in comment["body"]
    assert len(github.checks) == 3


@_EXTRA
def test_this_host_and_the_time_it_takes(go, github):
    """A real run in a folder of the repository; the verdict is whatever this machine deserves."""
    started = time.monotonic()
    _, outcomes = go(
        (
            "host",
            {"target": "check", "require": "memory,cpu", "working-directory": "deploy", "formats": "sarif=h.sarif"},
        ),
        files={"deploy/cgroup-preflight.toml": '[project]\nname = "demo"\n[slices.api]\nMemoryMax = "1G"\n'},
    )
    seconds = time.monotonic() - started
    assert outcomes["host"][1] in ("pass", "fail", "unverified")
    assert (outcomes["host"][0] == "success") == (outcomes["host"][1] == "pass")
    assert github.checks[0]["head_sha"] == gh.SHA
    assert all(item["path"] == "deploy/cgroup-preflight.toml" for item in github.checks[0]["annotations"])
    print(f"the job with the action took {seconds:.1f} s")


def test_a_merge_request_sees_what_a_merge_would_change(go, github):
    """Recorded hosts only; the second one would refuse it, and the third recording is not whole."""
    recording = RECORDING.read_text()
    changed = recording.replace("CPUQuotaPerSecUSec=2s", "CPUQuotaPerSecUSec=4s")
    config = '[project]\nname = "demo"\n[rollout.slices.api]\nCPUQuota = "100%"\n'
    files = {
        "cgroup-preflight.toml": config, "hosts/a.json": recording, "hosts/b.json": changed, "torn/c.json": recording[:-9],
        "bad/cgroup-preflight.toml": config.replace(".api", ".absent"), "bad/a.json": recording,
    }  # fmt: skip
    plan = {"target": "rollout-plan"}
    text, outcomes = go(
        ("good", plan | {"snapshots": "hosts", "key": "good"}), ("torn", plan | {"snapshots": "hosts\ntorn/c.json", "key": "torn"}),
        ("bad", plan | {"snapshots": "a.json", "key": "bad", "working-directory": "bad"}), ("none", plan | {"key": "none"}),
        files=files,
    )  # fmt: skip
    assert {name: more[:2] for name, more in outcomes.items()} == {
        "good": ["success", "pass"], "torn": ["failure", "unverified"], "bad": ["failure", "fail"], "none": ["failure", ""],
    }, text  # fmt: skip
    bodies = {re.search(r"v1 key=(\S+)", item["body"])[1]: html.unescape(item["body"]) for item in github.comments}
    assert set(bodies) == {"good", "torn", "bad"}
    assert "PASS: 2 values would change" in bodies["good"]
    assert "CPUQuota: 400%" in bodies["good"]
    assert "on 1 of 2 hosts: a" in bodies["good"]
    assert "nothing is known about this host" in bodies["torn"]
    assert "does not know it" in bodies["bad"]
    assert "target: rollout-plan and the input snapshots go together" in text


def test_the_deploy_job_of_the_example_rolls_out_and_reports_on_the_commit(go, github, tmp_path, monkeypatch):
    """Two hosts, of which the second takes everything back: the job fails, and one check run says why."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    text = (ROOT / "examples" / "rollout" / "github-deploy.yml").read_text("utf-8")
    # act has no network here, so the checkout of this repository is already there.
    first, _, rest = text.partition("      - uses: actions/checkout")[2].partition("      - uses: actions/checkout")
    assert "repository: org/cgroup-preflight" in rest.partition("      - name")[0]
    text = f"{text.partition('      - uses')[0]}      - uses: actions/checkout{first}      - name{rest.partition('      - name')[2]}"
    played = played_inventory(tmp_path / "machines", {"one": "good", "two": "harm"})
    files = {"cgroup-preflight.toml": PLAYED_CONFIG, "deploy/inventory": played}
    event = {"ref": "refs/heads/main", "after": gh.SHA, "repository": {"full_name": "org/demo"}}
    log, _ = go(text=text, files=files, folders={"cgroup-preflight/ci": ROOT / "ci"}, on="push", event=event)
    assert github.checks, log
    (check,) = github.checks
    assert check["conclusion"] == "failure", log
    assert "CGP805" in check["output"]["title"]
    assert "on 1 of 2 hosts: two" in html.unescape(check["output"]["summary"])
    assert github.comments == []
    assert "Job failed" in log


def test_mistakes_in_the_config_stand_at_their_lines(go, github):
    text, outcomes = go(
        ("broken", {"working-directory": "deploy"}),
        files={"deploy/cgroup-preflight.toml": '[project]\nname = "demo"\n[slices.api]\nMemoryMax = "512MB"\n'},
    )
    assert outcomes["broken"] == ["failure", "", "", ""]
    assert "file=deploy/cgroup-preflight.toml,line=4::" in text
    assert github.calls == []


def test_the_example_passes_in_a_guest(go, github):
    """The whole way: services of examples/shop under their limits on a real kernel, told to the pull request."""
    files, folders = example()
    text, outcomes = go(
        ("shop", {"engine": "guest", "working-directory": "shop", "comment": "always"}), files=files, folders=folders
    )
    assert outcomes["shop"][:3] == ["success", "pass", "0"], text
    assert [(item["head_sha"], item["conclusion"]) for item in github.checks] == [(gh.SHA, "success")]
    assert github.comments[0]["body"].startswith("## ✅ cgroup-preflight PASS: ")


def test_legs_are_told_apart_without_being_named(go, github):
    """What a matrix does that says nothing of itself: a leg that passes must not cover one that fails."""
    inputs = {"working-directory": "${{ matrix.folder }}", "target": "check", "comment": "always"}
    impossible = '[project]\nname = "demo"\n[require]\nsystemd = ">=9999"\n'
    possible = '[project]\nname = "demo"\n'
    files = {"a/cgroup-preflight.toml": impossible, "b/cgroup-preflight.toml": possible}
    go(("leg", inputs), files=files, matrix="{folder: [a, b]}")
    (comment,) = github.comments
    assert "**2 runners:**" in comment["body"]
    assert {check["name"] for check in github.checks} == {
        "cgroup-preflight (preflight, folder: a, in a)",
        "cgroup-preflight (preflight, folder: b, in b)",
    }


WITH_COLLECTING_JOB = """
on: [pull_request]
permissions: {{checks: write, pull-requests: write}}
jobs:
  leg:
    runs-on: ubuntu-latest
    strategy: {{fail-fast: false, matrix: {{include: [{{host: one, at: 0}}, {{host: two, at: 1}}, {{host: three, at: 2}}]}}}}
    steps:
      - uses: actions/checkout@v6
      - uses: org/cgroup-preflight@v1
        id: preflight
        with: {{target: publish, reports: "${{{{ matrix.host }}}}.json", version: "${{{{ matrix.host == '{broken}' && 'no version' || '' }}}}",
                token: "{token}", fail-on: never, comment: {comment},
                # act knows no strategy.job-index and no strategy.job-total
                identity: '{{"matrix": ${{{{ toJSON(matrix) }}}}, "index": "${{{{ matrix.at }}}}", "total": "3", "job": ""}}'}}
      - if: always()
        env: {{REPORT: "${{{{ steps.preflight.outputs.report }}}}", NAME: "${{{{ steps.preflight.outputs.artifact }}}}"}}
        run: '[ -z "$NAME" ] || {{ mkdir -p "{shared}/$NAME" && cp "$REPORT" "{shared}/$NAME"; }}'
  together:
    needs: leg
    if: always()
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v6
      - uses: org/cgroup-preflight@v1
        id: together
        continue-on-error: true
        with: {{target: publish, reports: "{shared}", expect: "${{{{ toJSON(needs) }}}}"}}
      - run: 'echo "outcome together $O verdict=$V findings=$F comment=$C"'
        env: {{O: "${{{{ steps.together.outcome }}}}", V: "${{{{ steps.together.outputs.verdict }}}}",
               F: "${{{{ steps.together.outputs.findings }}}}", C: "${{{{ steps.together.outputs.comment-url }}}}"}}
"""


@pytest.mark.parametrize(("reports", "broken", "verdict", "said"), [
    pytest.param({"one": PASS, "two": PASS, "three": PASS}, "", "pass", "**3 runners:** ✅ 3 pass", marks=_EXTRA),
    ({"one": PASS, "two": FAIL, "three": PASS}, "three", "fail", "❌ 1 fail, ⚠️ 1 unverified, ✅ 1 pass"),
    pytest.param({"one": PASS, "two": PASS, "three": PASS}, "two", "unverified", "⚠️ 1 unverified, ✅ 2 pass", marks=_EXTRA),
    ({"one": PASS, "two": PASS, "three": PASS}, "every", "unverified", ""),
])  # fmt: skip
def test_the_collecting_job_misses_a_leg_whose_installation_failed(
    go, github, tmp_path, reports, broken, verdict, said
):
    shared = tmp_path / "shared"
    shared.mkdir()
    text = WITH_COLLECTING_JOB.format(shared=shared, broken=broken, token="", comment="never")
    if broken == "every":
        text = text.replace("matrix.host == 'every' && ", "true && ")
    files = {f"{name}.json": codec.render(made) for name, made in reports.items()}
    log, outcomes = go(text=text, files=files)
    assert outcomes["together"][:2] == ["success" if verdict == "pass" else "failure", verdict], log
    if verdict != "pass":
        (comment,) = github.comments
        assert said in comment["body"]
        missing = {"three": "leg: leg 3 of 3", "two": "leg: leg 2 of 3", "every": "no leg of this job has reported"}[
            broken
        ]
        assert missing in html.unescape(comment["body"])


@pytest.mark.parametrize(("second", "broken", "said"), [
    pytest.param(FAIL, "three", "**3 runners:** ❌ 1 fail, ⚠️ 1 unverified, ✅ 1 pass", marks=_EXTRA),
    (PASS, "three", "**3 runners:** ⚠️ 1 unverified, ✅ 2 pass"),
    pytest.param(PASS, "", "**3 runners:** ✅ 3 pass", marks=_EXTRA),
])  # fmt: skip
def test_legs_that_publish_by_themselves_miss_one_whose_installation_failed(go, github, tmp_path, second, broken, said):
    """The comment is no pass while a leg has not reported, and the section of the failed leg stays."""
    github.latency = 0.02
    text = WITH_COLLECTING_JOB.format(shared=tmp_path, broken=broken, token="${{ github.token }}", comment="always")
    made = {"one": PASS, "two": second, "three": PASS}
    go(text=text.split("  together:")[0], files={f"{name}.json": codec.render(item) for name, item in made.items()})
    (comment,) = github.comments
    assert said in comment["body"]
    assert len({item["name"] for item in github.checks}) == len(github.checks) == (2 if broken else 3)


#: What a build of the pull request can leave for the steps after it. Each thing leaves a mark where it is used in a step
#: of the action, which alone has variables of this name.
PLANT = r"""
mkdir -p EVIL/bin "$RUNNER_TEMP/cgroup-preflight/lib/cgroup_preflight" "$HOME/.config/pip"
cat >EVIL/mark <<EOF
case \$(/usr/bin/env) in *CGPF_*) echo "\$0" >>"EVIL/found" ;; esac
EOF
for name in sh bash python3 python3.13 pip mktemp cat env mkdir sed; do
  { echo '#!/bin/sh'; cat EVIL/mark; echo "exec \$(PATH=/usr/local/bin:/usr/bin:/bin command -v $name) \"\$@\""; } >EVIL/bin/$name
  chmod +x EVIL/bin/$name
done
cat >EVIL/module.py <<EOF
import os, sys
if any(name.startswith("CGPF_") for name in os.environ):
    open("EVIL/found", "a").write(__file__ + "\n")
EOF
for name in sitecustomize usercustomize json requests urllib3 cgroup_preflight; do
  cp EVIL/module.py $name.py
  cp EVIL/module.py EVIL/$name.py
done
cp EVIL/module.py "$RUNNER_TEMP/cgroup-preflight/lib/cgroup_preflight/__init__.py"
cp EVIL/module.py "$RUNNER_TEMP/cgroup-preflight/lib/cgroup_preflight/cli.py"
printf '%s-' "$(python3 -I -c 'import sys, sysconfig; print(sysconfig.get_platform(), sys.version)')" >"$RUNNER_TEMP/cgroup-preflight/stamp"
printf '[global]\npython = %s\n' "EVIL/bin/python3" >"$HOME/.config/pip/pip.conf"
printf 'default login other password other\n' >"$HOME/.netrc"
echo "EVIL/bin" >>"$GITHUB_PATH"
{
  echo "BASH_ENV=EVIL/mark"
  echo "ENV=EVIL/mark"
  echo "PYTHONPATH=EVIL"
  echo "PYTHONSTARTUP=EVIL/module.py"
  echo "PYTHONUSERBASE=EVIL"
  echo "PIP_PYTHON=EVIL/bin/python3"
  echo "PIP_TARGET=EVIL"
  echo "TMPDIR=EVIL"
} >>"$GITHUB_ENV"
"""


def test_nothing_that_an_earlier_step_planted_is_used(go, github, tmp_path):
    """What was planted leaves no mark, and the result arrives as ever."""
    evil, files = tmp_path / "evil", {"pass.json": codec.render(PASS)}
    _, outcomes = go(
        ("pass", _publish("pass.json", comment="always")), files=files, before=PLANT.replace("EVIL", str(evil))
    )
    found = evil / "found"
    assert (evil / "bin" / "sh").is_file()
    assert (found.read_text() if found.exists() else "") == ""
    assert outcomes["pass"][:3] == ["success", "pass", "0"]
    assert [item["conclusion"] for item in github.checks] == ["success"]
    assert len(github.comments) == 1
    # The other way: a shell that is searched in PATH is the planted one, and leaves its marks.
    environment = {"PATH": f"{evil}/bin:/usr/bin:/bin", "BASH_ENV": f"{evil}/mark", "CGPF_X": "1"}
    assert run(["/bin/sh", "-c", "bash -c true"], tmp_path, environment).returncode == 0
    assert f"{evil}/bin/bash" in found.read_text()
