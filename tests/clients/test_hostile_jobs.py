"""A job in which other code had its turn before, or is still running: what it planted, changed or reads.

The steps are those of action.yml, each with its shell and its environment; a package of the tests takes the place of the
tool where a service has to do something that no honest one does.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from ci import action_entry

from tests.clients.helpers import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
SENTINEL = "ghs_" + "sentinel" * 4
NOBODY = 65534
#: Writes which processes show the sentinel: in their environment, their memory and what their descriptors lead to.
SPY = """
import os, sys
found = []
for pid in filter(str.isdecimal, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                if sys.argv[1].encode() in file.read() and int(pid) != os.getpid():
                    found.append(f"{name} {pid}")
        except OSError:
            pass
with open(sys.argv[2], "w") as file:
    file.write("\\n".join(found))
"""
TOOL = """
import hashlib, json, os, subprocess, sys, time
spy, folder = {spy!r}, {folder!r}
def main(words):
    half = lambda: "ghs_" + "sentinel" * int("4")
    mode = "publish" if words[0] == "publish" else "run"
    subprocess.run([sys.executable, "-I", "-c", "import sys; a = sys.argv; sys.argv = [a[0], 'ghs_' + 'sentinel' * 4, a[1]]; exec(open(%r).read())" % spy, folder + "/seen-" + mode])
    if mode == "publish":
        token = os.environ["CGROUP_PREFLIGHT_GITHUB_TOKEN"]
        code = "import sys\\nfor n in ('environ', 'mem', 'fd/0'):\\n try: open('/proc/%s/' % sys.argv[1] + n, 'rb'); print(n)\\n except OSError: pass"
        opened = subprocess.run([sys.executable, "-I", "-c", code, str(os.getpid())], capture_output=True, text=True).stdout
        json.dump(dict(arrived=hashlib.sha256(token.encode()).hexdigest(), opened=opened.split(), names=sorted(os.environ)), open(folder + "/published", "w"))
        return 0
    report = words[words.index("--format") + 1].partition("=")[2]
    open(report, "w").write("{{}}")
    for name in ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT"):
        open(os.environ[name], "a").write("BASH_ENV=/evil\\n")
    # Two forks and a session of its own: what `daemon(3)` does.
    code = "import os, time\\nif os.fork() == 0:\\n os.setsid()\\n if os.fork() == 0:\\n  open(%r, 'w').write(str(os.getpid())); time.sleep(120)"
    subprocess.run([sys.executable, "-I", "-c", code % (folder + "/daemon")])
    while not os.path.exists(folder + "/daemon") or not open(folder + "/daemon").read():
        time.sleep(0.01)
    return 0
"""


@pytest.fixture
def job():
    """A folder that every user may enter, with the action as the runner has it, and a tool of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="cgroup-preflight-job-"))
    action, lib = folder / "action", folder / "lib"
    (lib / "cgroup_preflight").mkdir(parents=True)
    for name in ("ci", "src"):
        shutil.copytree(ROOT / name, action / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "spy.py").write_text(SPY)
    (lib / "cgroup_preflight" / "__init__.py").write_text("")
    (lib / "cgroup_preflight" / "cli.py").write_text(TOOL.format(spy=str(folder / "spy.py"), folder=str(folder)))
    for name in ("env", "path", "output", "temp"):
        (folder / name).mkdir() if name == "temp" else (folder / name).write_text("")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    yield folder
    shutil.rmtree(folder)


def step(name, folder, **more):
    """Runs a step of action.yml as another user than root, as it stands there."""
    environment = {
        "PATH": os.environ["PATH"], "CGPF_PYTHON": _python(), "CGPF_LIB": str(folder / "lib"), "CGPF_TARGET": "run",
        "GITHUB_ACTION_PATH": str(folder / "action"), "RUNNER_TEMP": str(folder / "temp"), "GITHUB_WORKSPACE": str(folder),
        "GITHUB_OUTPUT": str(folder / "output"), "GITHUB_ENV": str(folder / "env"), "GITHUB_PATH": str(folder / "path"),
        **{key: value for key, value in STEPS[name]["env"].items() if value == ""}, **more,
    }  # fmt: skip
    (folder / "step").write_text(STEPS[name]["run"])
    words = [word.replace("{0}", str(folder / "step")) for word in STEPS[name]["shell"].split()]
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
                          stdin=subprocess.DEVNULL, **who)  # fmt: skip


def _python():
    """An interpreter that every user may start."""
    found = [path for path in ("/usr/bin/python3", sys.executable) if os.path.exists(path)]
    for path in found:
        new = subprocess.run([path, "-I", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False)
        if new.returncode == 0:
            return path
    return pytest.skip("no Python of 3.11 or newer that every user may start")


def outputs(folder):
    return dict(line.split("=", 1) for line in (folder / "output").read_text().splitlines())


def sealed(folder):
    """What the installing step hands on: the code that checks, and its hash."""
    seal = (ROOT / "ci" / "action_seal.py").read_text()
    words = [_python(), "-I", "-S", "-B", "-c", seal, "print", str(folder / "lib"), str(folder / "action")]
    made = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    return {"CGPF_SEAL": seal, "CGPF_SEALED": made, "CGPF_TOKEN": SENTINEL}


def test_no_process_shows_a_token_while_services_run(job):
    """A service reads /proc/PID/environ of all processes of its user: the shell, the entry and the tool."""
    secret = dict.fromkeys(
        ("GITHUB_TOKEN", "GH_TOKEN", "NPM_TOKEN", "REGISTRY_PASSWORD", "DEPLOY_PRIVATE", "X_SECRET"), SENTINEL
    )
    done = step("Run", job, **secret)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (job / "seen-run").read_text() == ""
    # The other way: the spy does see a token that a program above it has in its environment.
    words = [_python(), "-c", "import subprocess, sys; subprocess.run(sys.argv[1:], env={}, check=True)"]
    subprocess.run([*words, _python(), "-I", str(job / "spy.py"), "ghs_sentinel", str(job / "other")],
                   env={"X_SECRET": SENTINEL}, check=True, timeout=60)  # fmt: skip
    assert "environ" in (job / "other").read_text()


def test_what_a_service_leaves_behind_is_stopped_and_named(job):
    done = step("Run", job)
    pid = int((job / "daemon").read_text())
    deadline = time.monotonic() + 10
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(pid)
    assert (
        f"::warning title=cgroup-preflight::stopped a process that was left by the run: python3 ({pid})" in done.stdout
    )


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_files_of_the_step_have_what_the_entry_wrote_and_nothing_else(job):
    step("Run", job)
    assert (job / "env").read_text() == (job / "path").read_text() == ""
    found = outputs(job)
    assert set(found) == {"status", "report", "receipt", "alone", "sha256"}
    assert found["alone"] == "true"
    assert found["sha256"] == hashlib.sha256(b"{}").hexdigest()


def test_the_token_reaches_the_publishing_process_and_no_environment(job):
    if os.getuid() == 0 and not hasattr(os, "setresuid"):
        pytest.skip("root can open everything")
    planted = {"SSLKEYLOGFILE": f"{job}/keys", "OPENSSL_CONF": f"{job}/x", "GITHUB_TOKEN": "other"}
    done = step("Publish", job, CGPF_REPORT=str(job / "spy.py"), **planted, **sealed(job))
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((job / "published").read_text())
    assert said["arrived"] == hashlib.sha256(SENTINEL.encode()).hexdigest()
    assert (job / "seen-publish").read_text() == ""
    assert said["opened"] == []
    assert not {*planted, "CGPF_TOKEN"} & set(said["names"])


CHANGES = {
    "the tool": lambda job: (job / "lib/cgroup_preflight/cli.py").write_text("evil = 1"),
    "a new module": lambda job: (job / "lib/json.py").write_text("evil = 1"),
    "the source": lambda job: (job / "action/src/cgroup_preflight/__init__.py").write_text("evil = 1"),
    "the entry": lambda job: (job / "action/ci/action_entry.py").write_text("evil = 1"),
    "the entry as a link": lambda job: _link(job / "action/ci/action_entry.py", job / "spy.py"),
    "a folder as a link": lambda job: (job / "lib/requests").symlink_to(job),
    "bytecode": lambda job: _bytecode(job / "action/src/cgroup_preflight"),
    "less": lambda job: (job / "action/src/cgroup_preflight/publish/http.py").unlink(),
}


def _link(path, target):
    path.unlink()
    path.symlink_to(target)


def _bytecode(folder):
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "__init__.cpython-311.pyc").write_bytes(b"evil")


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nothing_that_changed_after_the_installation_gets_the_token(job, change):
    given = sealed(job)
    change(job)
    done = step("Publish", job, CGPF_REPORT=str(job / "spy.py"), **given)
    assert done.returncode == 4
    assert "files of the action changed after they were installed" in done.stdout
    assert not (job / "published").exists()


def test_a_report_that_changed_after_the_run_is_not_published(job):
    given = sealed(job)
    step("Run", job)
    found = outputs(job)
    Path(found["report"]).write_text("{ }")
    more = {"CGPF_REPORT": found["report"], "CGPF_SHA256": found["sha256"]}
    done = step("Publish", job, **more, **given)
    assert done.returncode == 2
    assert "the report changed after the run" in done.stdout
    assert not (job / "published").exists()
    Path(found["report"]).write_text("{}")
    assert step("Publish", job, **more, **given).returncode == 0


def test_processes_in_units_that_a_service_started_are_named(job):
    """As another user than root: one of its processes is in a group that was not there before, or in one that was."""
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from ci import action_leftovers as a; import os;"
        "known = frozenset({a._group(os.getpid())});"
        "print(len(a.strangers(frozenset())) > 0, len([x for x in a.strangers(known) if 'sleep' in x]))"
    )
    with subprocess.Popen(["/bin/sleep", "60"], **who) as other:
        done = subprocess.run([_python(), "-I", "-c", code, str(job / "action")], capture_output=True, text=True, timeout=60,
                              check=True, **who)  # fmt: skip
        other.kill()
    assert done.stdout.split() == ["True", "0"]


def test_the_token_depends_on_what_is_left():
    """The expression is the runner's: the token does not even enter the job's environment where something is left."""
    assert STEPS["Publish"]["env"]["CGPF_TOKEN"] == "${{ steps.run.outputs.alone != 'false' && inputs.token || '' }}"


@pytest.mark.parametrize("name", [name for name, item in STEPS.items() if "run" in item])
def test_no_step_starts_what_an_earlier_step_planted(name):
    """By name a shell would be searched in PATH, and these variables make a shell or a loader run other code."""
    assert STEPS[name]["shell"] == "/bin/sh -e {0}"
    for variable in ("BASH_ENV", "ENV", "LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD"):
        assert STEPS[name]["env"][variable] == ""
    words = [line.split()[0].strip('"') for line in STEPS[name]["run"].splitlines() if line.strip()]
    assert set(words) <= {"exec", "token=$CGPF_TOKEN", "unset", "$token", "EOF"}


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "GITHUB_OUTPUT", "RUNNER_TEMP", "XDG_RUNTIME_DIR", "HTTPS_PROXY", "CGPF_KEY"]
)
def test_the_run_keeps_what_is_no_secret(name):
    assert action_entry.without_secrets({name: "x"}) == {name: "x"}


def test_a_report_file_that_is_a_link_out_of_the_workspace(job, tmp_path):
    (job / "out.sarif").symlink_to(tmp_path / "victim")
    (job / "in.sarif").symlink_to(job / "real.sarif")
    environ = {"GITHUB_WORKSPACE": str(job)}
    for path in (f"sarif={job}/out.sarif", f"junit=x\nsarif={job}/out.sarif"):
        with pytest.raises(action_entry.InputError, match="link out of the workspace"):
            action_entry.refuse_links(environ | {"CGPF_FORMATS": path})
    action_entry.refuse_links(environ | {"CGPF_FORMATS": f"sarif={job}/in.sarif\ntext={tmp_path}/elsewhere"})
