"""Each way in which an artifact can differ from the plan, and the finding that says so."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from cgroup_preflight.artifacts import findings as artifact_findings
from cgroup_preflight.artifacts.findings import diff
from cgroup_preflight.artifacts.model import unsafe
from cgroup_preflight.core.report import Finding, Status
from tests.unit.artifacts.making import DROP_IN, MANIFEST, SLICE, UNITS, check, entry, members, proof, put, request, tar

_ELF = b"\x7fELF program"
_TESTED = request(tested=proof(user_api=hashlib.sha256(_ELF).hexdigest()))
_NO_UNIT = "the artifact has no user-api.service; its limits take effect only if another package ships that unit"
_UNIT = f"{UNITS}/user-api.service"


@pytest.fixture
def artifact(tmp_path: Path) -> str:
    """The plan with a proof, the tested program and its unit."""
    path = tmp_path / "a.tar"
    path.write_bytes(tar([entry("usr/bin/user-api", _ELF), entry(_UNIT, b"[Service]\nExecStart=/usr/bin/user-api\n")]))
    put(str(path), _TESTED)
    return str(path)


def _said(findings: Iterable[Finding]) -> list[tuple[str, Status, str]]:
    return [(item.code, item.status, item.message) for item in findings]


def _changed(path: str, contents: dict[str, bytes | None]) -> str:
    """The artifact with other files; None removes one."""
    files = members(Path(path).read_bytes()) | contents
    packed = [
        entry(name, data, mode=0o755 if "/bin/" in name else 0o644) for name, data in files.items() if data is not None
    ]
    Path(path).write_bytes(tar(packed))
    return path


def test_the_plan_and_the_tested_program(artifact: str) -> None:
    found = artifact_findings.checked(check(artifact))
    assert _said(found) == [
        ("CGP301", Status.PASS, "matches the plan: 3 files"),
        ("CGP302", Status.PASS, f"{artifact}: usr/bin/user-api is the program that was tested"),
    ]
    assert found[0].evidence == {"format": "tar", "sha256": hashlib.sha256(Path(artifact).read_bytes()).hexdigest()}
    assert not any(item.remedies for item in found)


def test_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar([entry("usr/bin/user-api", _ELF)]))
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    done = artifact_findings.written(put(str(path), _TESTED))
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    assert _said(done) == [
        ("CGP301", Status.PASS, f"3 files added (sha256 before {before}, after {after})"),
        ("CGP308", Status.SKIP, _NO_UNIT),
    ]  # fmt: skip
    assert done[0].evidence == {
        "format": "tar", "changed": True, "sha256_before": before, "sha256_after": after, "files": 3, "one_step": True,
    }  # fmt: skip
    again = artifact_findings.written(put(str(path), _TESTED))
    assert again[0].message == f"contains the plan already, nothing was written (sha256 {after})"
    assert (again[0].evidence["changed"], again[0].evidence["sha256_after"]) == (False, after)


def test_what_an_earlier_plan_left_is_removed_and_counted(artifact: str) -> None:
    smaller = request('[services.user-api]\nbinary = "dist/user-api"\n', tested=_TESTED.tested)
    compared = check(artifact, smaller)
    (wrong, *_) = artifact_findings.checked(compared)
    assert wrong.status is Status.FAIL
    assert SLICE in wrong.message
    text = str(wrong.evidence["diff"])
    assert f"--- artifact/{SLICE}\n+++ /dev/null" in text
    assert "-MemoryMax=192M" in text
    done = artifact_findings.written(put(artifact, smaller))
    assert done[0].message.startswith("2 files added, 1 of an earlier plan removed (")


def test_a_file_that_is_missing_or_different_is_in_the_diff(artifact: str) -> None:
    _changed(artifact, {SLICE: None, DROP_IN: b"[Service]\nCPUQuota=99%\n"})
    (wrong, *_) = artifact_findings.checked(check(artifact))
    assert (wrong.code, wrong.status) == ("CGP301", Status.FAIL)
    assert wrong.message == f"does not match the plan: {SLICE}, {DROP_IN}"
    text = str(wrong.evidence["diff"])
    assert f"--- /dev/null\n+++ plan/{SLICE}" in text
    assert f"--- artifact/{DROP_IN}\n+++ plan/{DROP_IN}" in text
    assert "-CPUQuota=99%\n" in text
    assert MANIFEST not in text, "the manifest is as it must be"
    assert wrong.remedies[0].commands == (("cgroup-preflight", "inject", artifact),)


def test_a_long_diff_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar([entry(DROP_IN, b"x\n" * 40_000)]))
    text = diff(check(str(path)))
    assert text.endswith("\n... and more")
    assert len(text) == 20_000 + len("\n... and more")


@pytest.mark.parametrize(
    ("program", "status", "words"),
    [
        (b"\x7fELF another", Status.FAIL, "is not the program that was tested"),
        (None, Status.FAIL, "none: the file is missing"),
    ],
)
def test_another_program_or_none_at_the_path_of_the_tested_one(
    artifact: str, program: bytes | None, status: Status, words: str
) -> None:
    _changed(artifact, {"usr/bin/user-api": program})
    found = [item for item in artifact_findings.checked(check(artifact)) if item.code == "CGP302"]
    assert [(item.status, item.subject) for item in found] == [(status, "user-api")]
    assert words in found[0].message
    assert found[0].remedies[0].commands == (("cgroup-preflight", "run"),)


def test_a_program_that_was_packed_after_its_plan_is_the_tested_one(tmp_path: Path) -> None:
    """The manifest has no path then; the hash alone decides."""
    path = tmp_path / "a.tar"
    path.write_bytes(tar([entry("README", b"x", mode=0o644)]))
    put(str(path), _TESTED)
    missing = [item for item in artifact_findings.checked(check(str(path))) if item.code == "CGP302"]
    assert [(item.status, item.subject) for item in missing] == [(Status.UNVERIFIED, "user-api")]
    _changed(str(path), {"usr/bin/user-api": _ELF})
    found = [item for item in artifact_findings.checked(check(str(path))) if item.code == "CGP302"]
    assert _said(found) == [("CGP302", Status.PASS, f"{path}: usr/bin/user-api is the program that was tested")]


def test_a_manifest_without_a_passed_run_is_no_proof(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar([entry("usr/bin/user-api", _ELF)]))
    put(str(path))
    found = [item for item in artifact_findings.checked(check(str(path))) if item.code == "CGP302"]
    assert [(item.status, item.message) for item in found] == [
        (Status.UNVERIFIED, f"{path}: user-api was injected without a run that passed")
    ]


def test_an_override_fails_the_check_and_warns_after_writing(artifact: str) -> None:
    _changed(artifact, {f"{_UNIT}.d/90-more.conf": b"[Service]\nCPUQuota=99%\n"})
    assert [item.status for item in artifact_findings.checked(check(artifact)) if item.code == "CGP308"] == [
        Status.FAIL
    ]
    assert [item.status for item in artifact_findings.written(put(artifact, _TESTED)) if item.code == "CGP308"] == [
        Status.WARN
    ]


def test_an_override_that_goes_with_this_edit_is_none(artifact: str) -> None:
    """A drop-in of ours in etc/ hides the one of the plan until this very edit removes it."""
    _changed(artifact, {"etc/systemd/system/user-api.service.d/10-cgroup-preflight.conf": b"[Service]\nCPUQuota=9%\n"})
    compared = check(artifact)
    assert [found.member.path for found in compared.edit.dropped]
    assert artifact_findings.hidden(compared, Status.FAIL) == ()


def test_an_artifact_that_is_refused_is_named_with_its_remedy() -> None:
    found = artifact_findings.refused("a.tar", unsafe("'x' is a device node"))
    assert (found.code, found.status, found.subject) == ("CGP304", Status.FAIL, "a.tar")
    assert found.message == "not changed: 'x' is a device node"
    assert found.remedies[0].title == "pack the artifact again without this member"


def test_the_proof_of_a_run_names_program_and_config() -> None:
    (found,) = artifact_findings.tested({"user-api": "a" * 64}, "c" * 64)
    assert (found.code, found.status, found.subject) == ("CGP302", Status.PASS, "user-api")
    assert found.evidence == {"sha256": "a" * 64, "config_sha256": "c" * 64}
