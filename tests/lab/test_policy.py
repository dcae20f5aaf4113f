"""A policy on a real run of the example: what fails by it, what is accepted, and what a baseline forgives."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
#: Each service and slice uses less than a quarter of its memory, so that each of them warns or does not by this alone.
_POLICY = """
[policy]
headroom_min = "99%"
fail_on = ["CGP514"]

[[policy.ignore]]
code = "CGP514"
subject = "worker"
reason = "it is small"

[[policy.ignore]]
code = "CGP506"
reason = "nothing needs this"

[[policy.ignore]]
code = "CGP514"
subject = "user-api"
reason = "this one is over"
until = "2020-01-31"
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    example = _ROOT / "examples" / "shop"
    if not (example / "dist" / "worker").is_file():
        pytest.skip("examples/shop is not built (nox builds it)")
    shutil.copytree(example / "dist", tmp_path / "dist")
    text = (example / "cgroup-preflight.toml").read_text("utf-8")
    head, mark, rest = text.partition("[slices.worker]")
    assert mark
    line = 'MemoryMax = "96M"'
    assert line in rest
    rest = rest.replace(line, f"{line}  # cgroup-preflight: ignore CGP514 one worker of two", 1)
    (tmp_path / "cgroup-preflight.toml").write_text(f"{head}{mark}{rest}{_POLICY}")
    return tmp_path


def _run(folder: Path, *words: str) -> tuple[int, str, dict[str, Any]]:
    argv = [sys.executable, "-m", "cgroup_preflight", "run", "--format", "text", "--format", "json=out.json", *words]
    done = subprocess.run(argv, cwd=folder, env={**os.environ, "PYTHONPATH": str(_ROOT / "src")}, check=False,
                          capture_output=True, text=True, timeout=400)  # fmt: skip
    return done.returncode, done.stdout + done.stderr, json.loads((folder / "out.json").read_text())


def _headroom(report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Status and part of the policy of each finding CGP514, by subject."""
    found = [item for item in report["findings"] if item["code"] == "CGP514"]
    return {item["subject"]: (item["status"], item.get("policy", {}).get("by", "")) for item in found}


def test_exceptions_accept_what_they_name_and_a_baseline_what_it_has(shop: Path) -> None:
    status, said, first = _run(shop)
    assert (status, first["verdict"]) == (1, "fail"), said
    assert _headroom(first) == {
        "api.slice": ("fail", "fail_on"), "auth-service": ("fail", "fail_on"), "user-api": ("fail", "fail_on"),
        "worker.slice": ("skip", "ignore"), "worker": ("skip", "ignore"),
    }  # fmt: skip
    lines = (shop / "cgroup-preflight.toml").read_text().splitlines()
    own = {item["code"]: item["location"]["line"] for item in first["findings"] if item["code"] in ("CGP220", "CGP221")}
    tables = [number for number, line in enumerate(lines, 1) if line == "[[policy.ignore]]"]
    assert own == {"CGP221": tables[1], "CGP220": tables[2]}
    assert "2 ignored" in said
    assert "one worker of two" in said

    (shop / "out.json").rename(shop / "before.json")
    status, said, second = _run(shop, "--baseline", "before.json")
    assert (status, second["verdict"]) == (0, "pass"), said
    assert "3 forgiven by the baseline" in said
    assert {by for _, by in _headroom(second).values()} == {"baseline", "ignore"}

    edited = json.loads((shop / "before.json").read_text())
    edited["findings"] = [item for item in edited["findings"] if item["subject"] != "auth-service"]
    (shop / "before.json").write_text(json.dumps(edited))
    status, said, third = _run(shop, "--baseline", "before.json")
    assert (status, third["verdict"]) == (1, "fail"), said
    assert _headroom(third)["auth-service"] == ("fail", "fail_on")
    assert "2 forgiven by the baseline" in said
