"""The template under `gitlab-ci-local`, in projects that include it, against GitLab on loopback."""

import http.server
import json
import os
import re
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.clients.helpers import (
    PLAYED_CONFIG,
    ROOT,
    clean_environment,
    commit,
    example,
    image_cache,
    played_inventory,
    run,
)
from tests.contract.forge import gitlab as gl

CONFIG = '[project]\nname = "demo"\n[slices.api]\nMemoryMax = "1G"\n'
TEMPLATE = (ROOT / ".gitlab-ci-template.yml").read_text("utf-8")


def including(wheel, **inputs):
    given = {"package": str(wheel), "target": "check"} | inputs
    lines = "".join(f"      {name}: {json.dumps(value)}\n" for name, value in given.items())
    return f"include:\n  - local: .gitlab-ci-template.yml\n    inputs:\n{lines}"


@pytest.fixture
def go(gitlab_ci_local, gitlab, project, tmp_path, wheel):
    """`go(inputs, more, jobs)`: what the client printed, its exit status, and the project's folder."""

    def start(
        inputs=None,
        more="",
        jobs=(),
        files=None,
        binaries=None,
        token=gl.TOKEN,
        links=(),
        variables=None,
        isolated=True,
    ):
        folder = project({
            ".gitlab-ci-template.yml": TEMPLATE, "cgroup-preflight.toml": CONFIG, "deploy/cgroup-preflight.toml": CONFIG,
            ".gitlab-ci.yml": including(wheel, **(inputs or {})) + more, ".gitignore": ".gitlab-ci-local/\n", **(files or {}),
        }, binaries, dict(links))  # fmt: skip
        variables = {
            "CI_PIPELINE_SOURCE": "merge_request_event", "CI_SERVER_URL": gitlab.server_url, "CI_PROJECT_ID": "42",
            "CI_MERGE_REQUEST_PROJECT_ID": "42", "CI_MERGE_REQUEST_IID": "5", "CI_COMMIT_SHA": gl.SHA,
            "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": gl.SHA, "CI_PIPELINE_ID": "1000", "CI_JOB_TOKEN": gl.JOB_TOKEN,
            "CGROUP_PREFLIGHT_GITLAB_TOKEN": token,
        } | (variables or {})  # fmt: skip
        argv = [*gitlab_ci_local, *jobs, "--force-shell-executor", *(["--shell-isolation"] if isolated else [])]
        for name, value in variables.items():
            argv += ["--variable", f"{name}={value}"]
        environment = clean_environment(tmp_path)
        if binaries:
            environment["XDG_CACHE_HOME"] = image_cache()
        done = run(argv, folder, environment)
        assert gl.TOKEN not in done.stdout + done.stderr
        return done.stdout + done.stderr, done.returncode, folder

    return start


def _reports(folder, job="cgroup-preflight"):
    """The folder of reports that a job made; the names of the folders are the numbers of the jobs."""
    found = [path.parent for path in folder.rglob("merged.json") if _origin(path)["job"] == job]
    assert found, f"no reports of {job} below {folder}"
    return found[0]


def _origin(path):
    document = json.loads(path.read_text())
    return document["origin"] or {"job": ""}


@contextmanager
def _web(folder):
    """`folder` over http, as `include: remote` wants it."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_every_way_to_include_it_makes_the_same_job(gitlab_ci_local, project, tmp_path):
    """local, remote, another project, and a component: what the client makes of them is one and the same."""
    tool = tmp_path / "remotes" / "org" / "cgroup-preflight.git"
    tool.mkdir(parents=True)
    (tool / ".gitlab-ci-template.yml").write_text(TEMPLATE)
    commit(tool, tag="v1")
    # `include: project` clones from where the including project comes from.
    (tmp_path / ".gitconfig").write_text(
        f'[url "file://{tmp_path}/remotes/"]\n\tinsteadOf = https://forge.example:443/\n'
    )
    folder = project(
        {".gitlab-ci-template.yml": TEMPLATE, "templates/cgroup-preflight.yml": TEMPLATE, ".gitlab-ci.yml": ""}
    )
    with _web(tool) as web:
        ways = {
            "local": {"local": ".gitlab-ci-template.yml"},
            "remote": {"remote": f"{web}/.gitlab-ci-template.yml"},
            "project": {"project": "org/cgroup-preflight", "ref": "v1", "file": ".gitlab-ci-template.yml"},
            "component": {"component": "$CI_SERVER_FQDN/$CI_PROJECT_PATH/cgroup-preflight@$CI_COMMIT_SHA"},
        }
        made = {}
        for name, way in ways.items():
            included = {"include": [way | {"inputs": {"engine": "systemd", "stage": "build", "job-prefix": "limits"}}]}
            (folder / ".gitlab-ci.yml").write_text(json.dumps(included))
            done = run([*gitlab_ci_local, "--preview"], folder, clean_environment(tmp_path))
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
            made[name] = yaml.safe_load(done.stdout.partition("\n---\n")[2])  # warnings come first
    job = made["local"]["limits"]
    assert (job["stage"], job["variables"]["CGPF_ENGINE"]) == ("build", "systemd")
    assert [name for name, jobs in made.items() if jobs["limits"] != job] == []


def test_the_included_job_says_what_this_host_deserves(go, gitlab):
    text, status, folder = go({"working-directory": "deploy"})
    reports = _reports(folder)
    verdict = json.loads((reports / "report.json").read_text())["verdict"]
    assert status == (0 if verdict == "pass" else 1), text
    assert f"CGROUP_PREFLIGHT_VERDICT={verdict}\n" in (reports / "preflight.env").read_text()
    for entry in json.loads((reports / "codequality.json").read_text()):
        assert entry["location"]["path"] == "deploy/cgroup-preflight.toml"
    assert len(gitlab.notes) == (0 if verdict == "pass" else 1)
    assert {path.name for path in reports.iterdir()} >= {"junit.xml", "annotations.json", "delivery.json", "report.md"}


def test_never_failing_and_without_a_token(go, gitlab):
    text, status, _ = go({"fail-on": "never"}, token="")
    assert status == 0, text
    assert "CI_JOB_TOKEN may not write notes here" in text or "nothing" in text
    assert gitlab.notes == []


def test_a_matrix_shares_a_note_and_a_collecting_job_makes_one_of_all(go, gitlab):
    more = """
cgroup-preflight:
  parallel:
    matrix:
      - HOST: [one, two, three]

together:
  extends: .cgroup-preflight-collect
  stage: deploy
  needs: [cgroup-preflight]
"""
    text, _, folder = go({"fail-on": "never", "comment": "always"}, more)
    merged = json.loads((_reports(folder, "together") / "merged.json").read_text())
    assert "on all 3 runners" in json.dumps(merged["findings"]), text
    (note,) = gitlab.notes
    assert "**3 runners:**" in note["body"]


#: Records the environment of each program that the job starts with it, and what comes by stdin to the one that publishes.
RECORDER = """#!/bin/sh
case $* in *' publish '*) mode=publish ;; *' pip '*) mode=pip ;; *) mode=run ;; esac
env >>"{folder}/$mode"
exec "{python}" "$@"
"""


def test_what_is_secret_stays_in_the_shell_of_the_job(go, gitlab, tmp_path):
    """Neither the run nor the program that publishes has a token in its environment; the note is written all the same."""
    recorder = tmp_path / "recorder"
    recorder.write_text(RECORDER.format(folder=tmp_path, python=sys.executable))
    recorder.chmod(0o755)
    more = """
variables:
  CI_REGISTRY_PASSWORD: sentinel-1
  CI_REPOSITORY_URL: https://gitlab-ci-token:sentinel-2@forge.example/x.git
  DEPLOY_PRIVATE_KEY: sentinel-3
  HARMLESS: kept
"""
    text, _, _ = go({"python": str(recorder), "fail-on": "never", "comment": "always"}, more)
    assert len(gitlab.notes) == 1, text
    for mode in ("run", "publish"):
        seen = (tmp_path / mode).read_text()
        assert [word for word in ("sentinel", gl.TOKEN, gl.JOB_TOKEN) if word in seen] == []
        assert "HARMLESS=kept" in seen
    # The other way: the recorder sees them before the shell has removed them.
    assert "sentinel-2" in (tmp_path / "pip").read_text()
    assert gl.TOKEN in (tmp_path / "pip").read_text()


def test_a_folder_of_reports_that_is_a_link_is_refused(go, gitlab, tmp_path):
    """A merge request can bring a link; git keeps it."""
    victim = tmp_path / "victim"
    victim.mkdir()
    text, status, _ = go(links={"cgroup-preflight-reports": victim, ".cgroup-preflight": victim})
    assert status != 0
    assert "is a link" in text
    assert list(victim.iterdir()) == []
    assert gitlab.calls == []


def test_legs_whose_slugs_are_equal_and_one_whose_installation_failed(go, gitlab, tmp_path):
    """Three values that one slug stands for; of them one fails. A fourth leg never makes a report."""
    impossible = f"{CONFIG}[require]\nsystemd = '>=9999'\n"
    more = """
cgroup-preflight:
  parallel:
    matrix:
      - HOST: [a.b, a/b]
      - HOST: a_b
        CGPF_DIRECTORY: impossible
      - HOST: broken
        CGPF_PACKAGE: /absent/cgroup_preflight-0-py3-none-any.whl

together:
  extends: .cgroup-preflight-collect
  stage: deploy
  needs: [cgroup-preflight]
"""
    text, status, folder = go(
        {"fail-on": "never", "comment": "never"}, more, files={"impossible/cgroup-preflight.toml": impossible}
    )
    merged = json.loads((_reports(folder, "together") / "merged.json").read_text())
    missing = [item["subject"] for item in merged["findings"] if item["code"] == "CGP608"]
    assert missing == ["cgroup-preflight: leg 4 of 4"], text
    assert (merged["verdict"], status) == ("fail", 1)
    (note,) = gitlab.notes
    assert "**4 runners:** ❌ " in note["body"]
    legs = [_origin(path) for path in folder.rglob("merged.json")]  # the client keeps copies
    assert sorted({item["name"] for item in legs if item["job"] == "cgroup-preflight"}) == [
        "cgroup-preflight: [a.b]", "cgroup-preflight: [a/b]", "cgroup-preflight: [a_b,impossible]"
    ]  # fmt: skip


def test_a_merge_request_sees_what_a_merge_would_change(go, gitlab):
    config = '[project]\nname = "demo"\n[rollout.slices.api]\nCPUQuota = "100%"\n'
    recording = (ROOT / "tests" / "fixtures" / "slices" / "debian-12.json").read_text()
    files = {"cgroup-preflight.toml": config, "hosts/a.json": recording, "hosts/b.json": recording}
    text, status, folder = go({"target": "rollout-plan", "snapshots": "hosts/a.json hosts"}, files=files)
    assert status == 0, text
    assert json.loads((_reports(folder) / "report.json").read_text())["verdict"] == "pass"
    (note,) = gitlab.notes
    assert "PASS: 1 value would change" in note["body"]
    assert "(on all 2 hosts)" in note["body"]


def test_a_plan_without_recordings_is_a_mistake(go, gitlab):
    text, status, _ = go({"target": "rollout-plan"})
    assert status != 0
    assert "needs the input snapshots" in text
    assert gitlab.calls == []


def test_the_deploy_job_of_the_example_waits_for_somebody_and_reports(go, gitlab, tmp_path, monkeypatch):
    """The pipeline as it is leaves the manual job alone; started by hand it rolls out on two hosts."""
    programs = tmp_path / "bin"
    programs.mkdir()
    tool = programs / "cgroup-preflight"
    tool.write_text(f'#!/bin/sh\nexec env PYTHONPATH="{ROOT}/src" "{sys.executable}" -m cgroup_preflight "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    text = (ROOT / "examples" / "rollout" / "gitlab-ci.yml").read_text("utf-8")
    text = re.sub(r"  - project: .*\n    ref: v1\n    file: (.*)\n", r"  - local: \1\n", text)
    files = {
        ".gitlab-ci.yml": f'{text}\nvariables:\n  CGROUP_PREFLIGHT_HOME: "{ROOT}"\n', "cgroup-preflight.toml": PLAYED_CONFIG,
        "deploy/inventory": played_inventory(tmp_path / "machines", {"one": "good", "two": "good"}), "deploy/hosts/a.json": "{}",
    }  # fmt: skip
    branch = {
        "CI_MERGE_REQUEST_IID": "",
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_BRANCH": "topic",
        "CI_DEFAULT_BRANCH": "topic",
    }
    # Isolated, the client removes what the script made before after_script runs; GitLab does not.
    log, status, folder = go(
        jobs=("rollout", "--evaluate-rule-changes=false"), files=files, variables=branch, isolated=False
    )
    assert status == 0, log
    kept = next(folder.rglob("rollout-reports/report.json")).parent  # the client keeps artifacts elsewhere
    report = json.loads((kept / "report.json").read_text())
    assert report["verdict"] == "pass"
    assert "(on all 2 hosts)" in str(report["findings"])
    assert (kept / "widgets" / "junit.xml").is_file()


def test_wrong_inputs_are_refused_by_the_client(go):
    _, status, _ = go({"engine": "magic"})
    assert status != 0


def test_mistakes_in_the_config_fail_the_job(go, gitlab):
    text, status, _ = go({"target": "run"}, files={"cgroup-preflight.toml": CONFIG.replace("1G", "512MB")})
    assert status != 0
    assert "512MB" in text
    assert gitlab.calls == []


def test_the_example_passes_in_a_guest(go, gitlab):
    """The whole way: services of examples/shop under their limits on a real kernel, told to the merge request."""
    files, folders = example()
    text, status, folder = go({"target": "run", "engine": "guest", "working-directory": "shop", "comment": "always"},
                              files=files, binaries=folders)  # fmt: skip
    assert status == 0, text
    assert json.loads((_reports(folder) / "report.json").read_text())["verdict"] == "pass"
    assert gitlab.notes[0]["body"].startswith("## ✅ cgroup-preflight PASS: ")
