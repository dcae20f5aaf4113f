"""Which members are programs of the plan, and what a check says where one is missing, another, or there twice."""

import hashlib
import tarfile
from pathlib import Path

import pytest

from cgroup_preflight.artifacts import findings as artifact_findings
from cgroup_preflight.artifacts.content import ContentRequest
from cgroup_preflight.artifacts.model import ArtifactError
from cgroup_preflight.artifacts.request import request_of
from cgroup_preflight.cli.common import plan_of
from cgroup_preflight.config.load import load
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Status
from tests.unit.artifacts.making import (
    DROP_IN,
    MANIFEST,
    SLICE,
    UNITS,
    ar,
    check,
    entry,
    members,
    proof,
    put,
    request,
    tar,
    write,
)
from tests.unit.golang import binaries

_ELF = b"\x7fELF tested"
_TESTED = request(tested=proof(user_api=hashlib.sha256(_ELF).hexdigest()))


def _statuses(path: str, goal: ContentRequest | None = None) -> dict[str, Status]:
    return {item.message.partition(": ")[2]: item.status for item in artifact_findings.checked(check(path, goal))
            if item.code == "CGP302"}  # fmt: skip


def test_files_of_its_name_that_are_no_programs_are_left_out(tmp_path: Path) -> None:
    names = {"usr/share/bash-completion/completions/user-api": 0o644, "etc/init.d/user-api": 0o755}
    others = [entry(name, b"not it", mode=mode) for name, mode in names.items()]
    path = write(tmp_path, "a.tar", tar([*others, entry("usr/bin/user-api", _ELF)]))
    put(path, _TESTED)
    assert list(_statuses(path).values()) == [Status.PASS]


@pytest.mark.parametrize("members_", [[], [entry("usr/bin/user-api-linux-amd64", _ELF)]])
def test_an_artifact_without_the_program_is_unverified(tmp_path: Path, members_: list) -> None:
    path = write(tmp_path, "a.tar", tar([*members_, entry("README")]))
    put(path, _TESTED)
    assert list(_statuses(path).values()) == [Status.UNVERIFIED]


def test_another_program_of_the_same_name_is_named(tmp_path: Path) -> None:
    both = [entry("amd64/user-api", _ELF), entry("arm64/user-api", b"\x7fELF other")]
    path = write(tmp_path, "a.tar", tar(both))
    done = put(path, _TESTED)
    said = [item for item in artifact_findings.written(done) if item.status is Status.WARN]
    assert "arm64/user-api has the name of the tested program" in said[0].message
    assert sorted(_statuses(path).values()) == [Status.PASS, Status.UNVERIFIED]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_to_the_program_is_followed(tmp_path: Path, kind: bytes) -> None:
    target = "opt/shop/user-api-1.2"
    link = entry("usr/bin/user-api", None, type=kind, linkname=f"/{target}" if kind == tarfile.SYMTYPE else target)
    path = write(tmp_path, "a.tar", tar([entry(target, _ELF), link]))
    put(path, _TESTED)
    assert list(_statuses(path).values()) == [Status.PASS]
    path = write(tmp_path, "b.tar", tar([entry(target, b"stripped"), link]))
    with pytest.raises(ArtifactError, match="usr/bin/user-api"):
        put(path, _TESTED)


def test_a_sparse_program_is_refused_for_its_bytes_are_not_there(tmp_path: Path) -> None:
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    path = write(tmp_path, "a.tar", tar([entry("user-api", _ELF, pax_headers=sparse)], tarfile.PAX_FORMAT))
    with pytest.raises(ArtifactError, match="sparse file"):
        put(path)


def test_programs_that_changed_places_end_the_proof(tmp_path: Path) -> None:
    text = '[services.a]\nbinary = "a"\n[services.b]\nbinary = "b"\n'
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in "ab"}
    goal = request(text, tested=proof(**hashes))
    path = write(tmp_path, "a.tar", tar([entry("a", b"a"), entry("b", b"b")]))
    put(path, goal)
    swapped = tar([entry("a", b"b"), entry("b", b"a"), *(entry(name, data, mode=0o644) for name, data in
                  members(Path(path).read_bytes()).items() if "/" in name)])  # fmt: skip
    path = write(tmp_path, "b.tar", swapped)
    assert not check(path, request(text)).edit.empty, "the proof is of another arrangement"
    assert Status.FAIL in _statuses(path, request(text)).values()


def test_present_puts_nothing_where_nothing_is(tmp_path: Path) -> None:
    goal = request(services="present")
    path = write(tmp_path, "a.tar", tar([entry("README")]))
    before = Path(path).read_bytes()
    assert [item.status for item in artifact_findings.written(put(path, goal))] == [Status.WARN]
    assert Path(path).read_bytes() == before
    assert [item.status for item in artifact_findings.checked(check(path, goal))] == [Status.UNVERIFIED]


def test_the_program_of_the_artifact_stands_in_for_one_that_is_not_here(tmp_path: Path) -> None:
    """A gate before a deploy has the config and the artifact, and nothing was built there."""
    text = '[project]\nname = "shop"\n[services.user-api]\nbinary = "dist/user-api"\nMemoryMax = "512M"\n'
    program = _go_program()
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/user-api").write_bytes(program)
    artifact = write(tmp_path, "a.tar", tar([entry("opt/user-api", program)]))
    put(artifact, _wish_of(tmp_path, text))
    assert b"GOMEMLIMIT" in members(Path(artifact).read_bytes())[DROP_IN]
    (tmp_path / "dist/user-api").unlink()
    assert check(artifact, _wish_of(tmp_path, text)).edit.empty
    bare = write(tmp_path, "b.tar", tar([entry(f"{UNITS}/user-api.service", b"[Service]\n")]))
    with pytest.raises(UsageError, match="neither on this machine nor in the artifact"):
        put(bare, _wish_of(tmp_path, text))
    assert put(bare, _wish_of(tmp_path, f"{text}go_settings = false\n")).changed


def _wish_of(folder: Path, text: str) -> ContentRequest:
    (folder / "c.toml").write_text(text)
    config = load(folder / "c.toml")
    return request_of(config, plan_of(config))


def _go_program() -> bytes:
    blob = binaries.inline_blob(b"go1.25.0", binaries.framed(b"path\tshop\n"))
    return binaries.elf(segments=[binaries.Part(data=blob)])


def test_a_whole_unit_of_ours_stays_one(tmp_path: Path) -> None:
    """The unit that was put in is not taken for the artifact's own, which would get a drop-in."""
    path = write(tmp_path, "a.tar", tar([entry("usr/bin/user-api", _ELF)]))
    unit = f"{UNITS}/user-api.service"
    put(path, request(service_units=True))
    once = Path(path).read_bytes()
    assert not put(path, request(service_units=True)).changed
    put(path, request(service_units=True, limit="1G"))
    assert unit in members(Path(path).read_bytes())
    put(path, request(service_units=True))
    assert members(Path(path).read_bytes()) == members(once)
    put(path)
    assert unit not in members(Path(path).read_bytes())
    assert DROP_IN in members(Path(path).read_bytes())


def test_a_package_with_the_manifest_of_its_project_passes(tmp_path: Path) -> None:
    """As packagers make it by the snippets of --emit: the manifest knows neither package nor place of the program."""
    stage = tmp_path / "stage"
    stage.mkdir()
    put(str(stage), _TESTED)
    ours = [(name, (stage / name).read_bytes()) for name in (SLICE, DROP_IN, MANIFEST)]
    files = [entry(f"./{name}", data, mode=0o644) for name, data in ours]
    path = write(tmp_path, "a.deb", _package("other-name", [*files, entry("./usr/bin/user-api", _ELF)]))
    before = Path(path).read_bytes()
    for goal in (None, _TESTED):
        assert check(path, goal).edit.empty
        assert list(_statuses(path, goal).values()) == [Status.PASS]
    assert not put(path).changed
    assert Path(path).read_bytes() == before
    path = write(tmp_path, "b.deb", _package("other-name", [*files, entry("./usr/bin/user-api", b"stripped")]))
    assert not check(path).edit.empty
    with pytest.raises(ArtifactError, match="not the program"):
        put(path, _TESTED)


def _package(name: str, data: list) -> bytes:
    control = tar([entry("./control", f"Package: {name}\nVersion: 1\n".encode())])
    return ar([("debian-binary", b"2.0\n"), ("control.tar", control), ("data.tar", tar(data))])


#: What somebody did to an artifact that passed, and how its check ends; the manifest is bytes of ours or it is none.
_TAMPERED = {
    "another key": ({MANIFEST: (b"{", b'{"x": 1, ')}, Status.FAIL),
    "a key twice": ({MANIFEST: (b'"verdict"', b'"verdict": "fail", "verdict"')}, Status.FAIL),
    "another verdict": ({MANIFEST: (b'"pass"', b'"fail"')}, Status.FAIL),
    "no verdict": ({MANIFEST: (b'"pass"', b'"untested"')}, Status.UNVERIFIED),
    "no manifest": ({MANIFEST: None}, Status.FAIL),
    "limit": ({DROP_IN: (b"50%", b"99%")}, Status.FAIL),
    "slice": ({SLICE: None}, Status.FAIL),
    "program": ({"usr/bin/user-api": (b"tested", b"another")}, Status.FAIL),
    "no program": ({"usr/bin/user-api": None}, Status.FAIL),
    "nothing": ({}, Status.PASS),
}


@pytest.mark.parametrize("name", _TAMPERED)
def test_the_check_sees_what_was_done_to_an_artifact(tmp_path: Path, name: str) -> None:
    changes, status = _TAMPERED[name]
    path = write(tmp_path, "a.tar", tar([entry("usr/bin/user-api", _ELF)]))
    put(path, _TESTED)
    held = members(Path(path).read_bytes())
    for place, change in changes.items():
        old = held.pop(place)
        if change is not None:
            held[place] = old.replace(*change, 1)
    path = write(tmp_path, "b.tar", tar(entry(place, data) for place, data in held.items()))
    findings = artifact_findings.checked(check(path))
    assert max((item.status for item in findings), key=_WORST.index) is status


_WORST = [Status.SKIP, Status.PASS, Status.WARN, Status.UNVERIFIED, Status.FAIL]
