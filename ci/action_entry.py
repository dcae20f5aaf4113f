"""What action.yml starts: environment to argv, nothing else. `python -I ci/action_entry.py run|publish`.

`-I`, `-S` and the paths below keep modules of the workspace and of the job, which a pull request can bring, from being
imported.
"""

import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHOICES = {
    "CGPF_TARGET": ("run", "check", "rollout-plan", "publish"), "CGPF_COMMENT": ("auto", "always", "never"),
    "CGPF_CHECK": ("on", "off"),
    "CGPF_PUBLISH": ("warn", "strict"), "CGPF_FAIL_ON": ("unverified", "fail", "never"),
    "CGPF_ENGINE": ("", "auto", "systemd", "user", "cgroupfs", "guest"),
}  # fmt: skip
#: Names of what is secret in the environment of a job; gone before anything of the pull request runs.
SECRET = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_KEY|JWT")
#: What an earlier step can use to change the programs that publish, or to read what they send.
PLANTED = ("SSLKEYLOGFILE", "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES")
#: The token, which action_seal.py puts there.
TOKEN = "CGROUP_PREFLIGHT_GITHUB_TOKEN"  # noqa: S105 - a name


class InputError(Exception):
    """An input has a value that it cannot have; found before any work is done."""


def check_inputs(environ: Mapping[str, str]) -> None:
    """Raises InputError with the input's name as action.yml has it."""
    for name, choices in CHOICES.items():
        if environ.get(name, choices[0]) not in choices:
            shown = name.removeprefix("CGPF_").lower().replace("_", "-")
            raise InputError(f"the input {shown} is none of: {', '.join(choice or 'empty' for choice in choices)}")
    target = environ.get("CGPF_TARGET", "run")
    if environ.get("CGPF_REQUIRE") and target != "check":
        raise InputError("the input require goes with target: check; for a run it is [require] in the config")
    if (target == "rollout-plan") != bool(_lines(environ, "CGPF_SNAPSHOTS")):
        raise InputError("target: rollout-plan and the input snapshots go together")
    if target == "publish" and not _lines(environ, "CGPF_REPORTS"):
        raise InputError("target: publish needs the input reports")
    if environ.get("CGPF_EXPECT") and target != "publish":
        raise InputError("the input expect goes with target: publish")


def _lines(environ: Mapping[str, str], name: str) -> list[str]:
    return [line.strip() for line in environ.get(name, "").splitlines() if line.strip()]


def run_words(environ: Mapping[str, str], report: str) -> list[str]:
    """The argv of `cgroup-preflight` for the run step; empty where there is nothing to run."""
    target = environ.get("CGPF_TARGET", "run")
    if target == "publish":
        return []
    words = [target]
    if target == "rollout-plan":
        words = ["rollout", "plan", *(f"--snapshot={path}" for path in _lines(environ, "CGPF_SNAPSHOTS"))]
    words += ["--format", f"json={report}"]
    for line in _lines(environ, "CGPF_FORMATS"):
        words += ["--format", line]
    for option, name in (("--config", "CGPF_CONFIG"), ("--require", "CGPF_REQUIRE")):
        if environ.get(name):
            words += [option, environ[name]]
    if environ.get("CGPF_ENGINE") and target == "run":
        words += ["--engine", environ["CGPF_ENGINE"]]
    if environ.get("CGPF_RUN_BASELINE") and target == "run":
        words += [f"--baseline={environ['CGPF_RUN_BASELINE']}"]
    return words


def leg_words(environ: Mapping[str, str]) -> list[str]:
    """Options that tell this leg from the others of the job: its whole matrix and its position; and its name for people.

    By default, the input `leg` is the matrix, too: then its values are the name.
    """
    given, identity = environ.get("CGPF_LEG", ""), _identity(environ)
    words = []
    if environ.get("CGPF_TARGET") != "publish":
        words += [f"--leg={name}"] if (name := _name(given)) else []
    elif given and not given.startswith("{"):
        words.append(f"--leg={given}")  # a step that publishes the one report of its leg
    if matrix := identity["matrix"]:
        words.append(f"--matrix={matrix if isinstance(matrix, str) else json.dumps(matrix)}")
    index, total = _whole(identity["index"]), _whole(identity["total"])
    if index is not None and total is not None and index < total:
        words.append(f"--position={index + 1}/{total}")
    return words


def _identity(environ: Mapping[str, str]) -> dict[str, object]:
    """The input `identity`: as action.yml makes it, or any other text that tells this leg from others."""
    text = environ.get("CGPF_IDENTITY", "")
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    parts = ("matrix", "index", "total", "job")
    if not isinstance(found, dict) or not found.keys() <= set(parts):
        return {"matrix": text, "index": "", "total": "", "job": ""}
    return {part: found.get(part, "") for part in parts}


def _whole(text: object) -> int | None:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 19 else None


def _name(given: str) -> str:
    try:
        matrix = json.loads(given)
    except ValueError:
        return given
    if not isinstance(matrix, dict):
        return "" if matrix is None else given
    return ", ".join(value if isinstance(value, str) else json.dumps(value) for value in matrix.values())


def _expected(environ: Mapping[str, str]) -> list[str]:
    """What must have reported: GitHub's context `needs` as JSON, which has several lines, or one job a line."""
    text = environ.get("CGPF_EXPECT", "").strip()
    return [text] if text.startswith("{") else _lines(environ, "CGPF_EXPECT")


def publish_words(environ: Mapping[str, str], prefix: str) -> list[str]:
    """The argv of `cgroup-preflight` for the publish step."""
    merging = environ.get("CGPF_TARGET") == "publish"
    words = ["publish", "--provider", "github"]
    for option, name in (
        ("--comment", "CGPF_COMMENT"), ("--check", "CGPF_CHECK"), ("--publish", "CGPF_PUBLISH"),
        ("--key", "CGPF_KEY"), ("--baseline", "CGPF_BASELINE"), ("--pull-request", "CGPF_PULL_REQUEST"),
        ("--fail-on", "CGPF_FAIL_ON"), ("--receipt", "CGPF_RECEIPT"),
    ):  # fmt: skip
        if environ.get(name):
            words.append(f"{option}={environ[name]}")
    # With target publish the reports come from other jobs: what is checked out here tells nothing about them.
    words.append(f"--commit={environ.get('CGPF_COMMIT') or ('event' if merging else 'checkout')}")
    words += leg_words(environ)
    words += [f"--expect={item}" for item in _expected(environ)]
    if prefix not in ("", ".") and not merging:
        words.append(f"--prefix={prefix}")
    # The run's own report is written once more, with the receipt in it.
    formats = [f"json={environ['CGPF_REPORT']}", *(_lines(environ, "CGPF_FORMATS") if merging else ())]
    words += [f"--format={item}" for item in formats]
    reports = _lines(environ, "CGPF_REPORTS") if merging else [environ["CGPF_REPORT"]]
    return [*words, "--", *reports]


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for the step that runs the services."""
    return {name: value for name, value in environ.items() if not SECRET.search(name.upper())}


def refuse_links(environ: Mapping[str, str]) -> None:
    """Raises InputError where a report file in the workspace would be written outside: a pull request can bring links."""
    workspace = os.path.realpath(environ.get("GITHUB_WORKSPACE", "."))
    for line in _lines(environ, "CGPF_FORMATS"):
        path = os.path.abspath(line.partition("=")[2])
        if _is_below(path, workspace) and not _is_below(os.path.realpath(path), workspace):
            raise InputError("the input formats names a file that is a link out of the workspace")


def _is_below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def _run(environ: Mapping[str, str]) -> int:
    folder = Path(environ["RUNNER_TEMP"]) / f"cgroup-preflight-out-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    report, receipt = str(folder / "report.json"), str(folder / "delivery.json")
    words = run_words(environ, report)
    from cgroup_preflight.cli import main
    from ci import action_leftovers as leftovers

    leftovers.adopt()
    groups = leftovers.groups()
    # No line of a report or a log is a command to the runner until the token comes, which nobody else knows.
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    try:
        status = main(words) if words else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        print(f"\n::{token}::", flush=True)
    for name in leftovers.end_children():
        print(f"::warning title=cgroup-preflight::stopped a process that was left by the run: {name}")
    left = leftovers.strangers(groups)
    if left:
        print("::error title=cgroup-preflight::the step that publishes gets no token, because a process that the run "
              f"started could read it: {', '.join(left)}")  # fmt: skip
    _write_outputs(environ, {
        "status": str(int(status)), "report": report, "receipt": receipt, "alone": "false" if left else "true",
        "sha256": _sha256(report),
    })  # fmt: skip
    if status == 2:
        _annotate_config(environ)
    # A verdict waits until it is published; everything else has made no report.
    return 0 if status in (0, 1, 3) else int(status)


def _write_outputs(environ: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """The outputs of this step and nothing else: its files are open to every process of this user."""
    for name in ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE"):
        if environ.get(name):
            Path(environ[name]).write_text("")
    Path(environ["GITHUB_OUTPUT"]).write_text("".join(f"{name}={value}\n" for name, value in outputs.items()), "utf-8")


def _sha256(path: str) -> str:
    """Empty if there is no such file."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def _annotate_config(environ: Mapping[str, str]) -> None:
    """A config with mistakes makes no report; its mistakes are shown at their lines all the same."""
    from cgroup_preflight.cli.common import load_config
    from cgroup_preflight.core.errors import ConfigError, PreflightError
    from cgroup_preflight.core.report import Report, Verdict
    from cgroup_preflight.report import annotations
    from cgroup_preflight.report.merge import rebase

    try:
        load_config(Path(environ["CGPF_CONFIG"]) if environ.get("CGPF_CONFIG") else None)
    except ConfigError as error:
        report = Report(tool_version="", verdict=Verdict.FAIL, host=None, findings=error.findings, services=(),
                        started_at="", duration_seconds=0.0)  # fmt: skip
        sys.stdout.write(annotations.render(rebase(report, prefix=_prefix(environ))))
    except PreflightError:
        pass  # the command has said it


def _prefix(environ: Mapping[str, str]) -> str:
    """The working directory as seen from the workspace."""
    return os.path.relpath(os.path.realpath(os.getcwd()), os.path.realpath(environ.get("GITHUB_WORKSPACE", ".")))


def _publish(environ: Mapping[str, str]) -> int:
    if environ.get("CGPF_SHA256") and _sha256(environ["CGPF_REPORT"]) != environ["CGPF_SHA256"]:
        raise InputError("the report changed after the run, so nothing is published")
    from cgroup_preflight.cli import main

    os.environ["CGROUP_PREFLIGHT_JOB_ID"] = str(_whole(_identity(environ)["job"]) or "")
    return int(main(publish_words(environ, _prefix(environ))))


def entry(mode: str) -> int:
    """The exit status of one step."""
    environ = dict(os.environ)
    try:
        check_inputs(environ)
        refuse_links(environ)
        return _run(environ) if mode == "run" else _publish(environ)
    except InputError as error:
        print(f"::error title=cgroup-preflight::{error}")
        return 2


def _prepare(mode: str) -> None:
    """Takes from the environment what is secret, for `publish` all but the one token, and what is planted."""
    if mode == "run":
        clean = without_secrets(os.environ)
        if len(clean) < len(os.environ):
            # /proc/PID/environ keeps what a process began with, whatever it removes later.
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-B", *sys.argv], clean)  # noqa: S606
        return
    for name in set(os.environ) - {TOKEN} - set(without_secrets(os.environ)) | set(PLANTED) & set(os.environ):
        del os.environ[name]
    os.environ["NETRC"] = os.devnull  # `requests` would take a password from ~/.netrc instead of the token


if __name__ == "__main__":
    _prepare(sys.argv[1])
    # A requested version is installed next to its dependencies; without one, the source of this action is used.
    sys.path[:0] = [os.environ["CGPF_LIB"], str(HERE.parent / "src")]
    sys.path.append(str(HERE.parent))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(entry(sys.argv[1]))
