"""From the config to the request and to the artifacts that it names."""

import hashlib
import os
from pathlib import Path

import pytest

from cgroup_preflight.artifacts.request import (
    artifact_paths,
    config_hash,
    request_of,
    source_date,
    with_report,
)
from cgroup_preflight.cli.common import plan_of
from cgroup_preflight.config.binaries import program_hashes
from cgroup_preflight.config.load import load
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Status
from cgroup_preflight.report import codec
from tests.unit.report.samples import GOOD, PROVED, finding, report

_TEXT = """
[project]
name = "shop"
[artifacts]
inject = ["out/*.tar", "none/*", "out/a*"]
[services.a]
binary = "dist/a"
[services.b]
binary = "dist/b"
go_settings = false
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    project = tmp_path / "project [1]"  # a folder whose name is a pattern itself
    for folder in ("dist", "out", "elsewhere"):
        (project / folder).mkdir(parents=True)
    (project / "cgroup-preflight.toml").write_text(_TEXT)
    monkeypatch.chdir(project / "elsewhere")
    return load(project / "cgroup-preflight.toml")


def test_artifacts_by_pattern_each_once_and_patterns_without_one(config: Config) -> None:
    for name in ("b.tar", "a.tar", ".a.tar.cgroup-preflight.tmp", "ab"):
        (Path(config.folder) / "out" / name).write_bytes(b"")
    (Path(config.folder) / "out/a.cgroup-preflight.tmp").write_bytes(b"")
    assert artifact_paths(config) == (("../out/a.tar", "../out/b.tar", "../out/ab"), ("none/*",))


def test_hashes_of_the_programs_that_exist(config: Config) -> None:
    (Path(config.folder) / "dist/b").write_bytes(b"program")
    assert program_hashes(config) == {"b": hashlib.sha256(b"program").hexdigest()}


def test_only_go_programs_that_are_not_here_are_absent(config: Config) -> None:
    assert request_of(config, plan_of(config)).absent == {"a"}
    (Path(config.folder) / "dist/a").write_bytes(b"program")
    request = request_of(config, plan_of(config))
    assert request.absent == frozenset()
    assert (request.tested.verdict, request.tested.binaries) == ("untested", {})
    assert request.config_sha256 == hashlib.sha256(_TEXT.encode()).hexdigest()


def test_a_config_that_is_gone_is_an_error_of_the_call(config: Config) -> None:
    os.unlink(Path(config.folder) / "cgroup-preflight.toml")
    with pytest.raises(UsageError, match="cannot read: No such file"):
        config_hash(config)


@pytest.mark.parametrize(
    ("text", "seconds"), [("", None), ("0", 0), ("1700000000", 1_700_000_000), (str((1 << 33) - 1), (1 << 33) - 1)]
)
def test_a_source_date(text: str, seconds: int | None) -> None:
    assert source_date({"SOURCE_DATE_EPOCH": text}) == seconds
    assert source_date({}) is None


@pytest.mark.parametrize("text", [str(1 << 33), "-1", "1.5", "x", "\N{ARABIC-INDIC DIGIT ONE}", "00000000001", " 1"])
def test_a_source_date_that_no_archive_can_store(text: str) -> None:
    with pytest.raises(UsageError, match="not a time in seconds") as caught:
        source_date({"SOURCE_DATE_EPOCH": text})
    assert caught.value.where == "SOURCE_DATE_EPOCH"


@pytest.mark.parametrize(
    ("verdict", "subjects", "config_sha256", "reason"),
    [
        ("unverified", ["a", "b"], "", "its run ended with unverified"),
        ("pass", [], "", "it names no tested program"),
        ("pass", ["a", "b"], "0" * 64, "its run used another config"),
        ("pass", ["a", "a"], "", "it names a tested program twice"),
        ("pass", ["a", "b"], "", "it has no result of a"),
    ],
)
def test_a_report_that_proves_nothing_about_this_config(
    config: Config, tmp_path: Path, verdict: str, subjects: list[str], config_sha256: str, reason: str
) -> None:
    request = request_of(config, plan_of(config))
    evidence = {"sha256": "a" * 64, "config_sha256": config_sha256 or request.config_sha256}
    tested = [finding(Status.PASS, code="CGP302", subject=name, evidence=evidence) for name in subjects]
    more = [finding(Status.UNVERIFIED)] if verdict == "unverified" else []
    path = tmp_path / "report.json"
    path.write_text(codec.render(report(*PROVED, *tested, *more, services=(GOOD,))))
    with pytest.raises(UsageError, match=f"cannot be used as a proof: {reason}") as caught:
        with_report(str(path), request)
    assert caught.value.where == str(path)
