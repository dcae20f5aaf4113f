"""Archives with all their content in one folder, as GoReleaser's `wrap_in_directory` makes them."""

from pathlib import Path

import pytest

from cgroup_preflight.artifacts import findings as artifact_findings
from cgroup_preflight.artifacts.model import ArtifactError
from cgroup_preflight.core.report import Status
from tests.unit.artifacts import making
from tests.unit.artifacts.making import DROP_IN, MANIFEST, SLICE, UNITS, check, entry, put, request, tar, write, zipped

_GOAL = request(services="present", auto_prefix=True)
_TOP = "svc_1.2.3_linux_amd64"
_OURS = (SLICE, DROP_IN, MANIFEST)


def _failed(path: str) -> list[str]:
    return [item.message for item in artifact_findings.checked(check(path, _GOAL)) if item.status is Status.FAIL]


@pytest.mark.parametrize("folder", [True, False])
@pytest.mark.parametrize("inside", ["user-api", "bin/user-api", "systemd/user-api.service"])
def test_units_go_where_the_program_is(tmp_path: Path, folder: bool, inside: str) -> None:
    members = [entry(f"{_TOP}/README"), entry(f"{_TOP}/{inside}", b"\x7fELF")]
    members = [entry(f"{_TOP}/", None), *members] if folder else members
    services = "present" if "service" not in inside else "all"
    path = write(tmp_path, "a.tar", tar(members))
    goal = request(services=services, auto_prefix=True)
    put(path, goal)
    names = making.members(Path(path).read_bytes())
    assert {name for name in names if "preflight" in name} == {f"{_TOP}/{item}" for item in _OURS}
    assert put(path, goal).changed is False
    assert check(path, goal).edit.empty


def test_a_zip_has_a_folder_around_it_too(tmp_path: Path) -> None:
    path = write(tmp_path, "a.zip", zipped([(f"{_TOP}/user-api", b"\x7fELF")]))
    done = put(path, request(services="all", auto_prefix=True))
    assert set(done.compared.expected) == {f"{_TOP}/{item}" for item in _OURS}


@pytest.mark.parametrize(
    "names",
    [
        ("usr/bin/user-api",),
        ("opt/shop/user-api",),
        ("user-api", "doc/README"),
        ("a/user-api", "b/README"),
        ("user-api",),
    ],
)
def test_other_archives_are_unpacked_as_they_are(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = write(tmp_path, "a.tar", tar([entry(name, b"elf") for name in names]))
    assert set(put(path, _GOAL).compared.expected) == set(_OURS)


def test_a_folder_without_program_or_unit_is_no_root(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tar", tar([entry("docs/README")]))
    assert set(put(path, request(services="all", auto_prefix=True)).compared.expected) == set(_OURS)


def test_a_prefix_of_the_config_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tar", tar([entry(f"{_TOP}/user-api", b"elf")]))
    assert set(put(path, request()).compared.expected) == set(_OURS)


def test_files_that_were_put_beside_the_folder_do_not_pass(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tar", tar([entry(f"{_TOP}/user-api", b"elf")]))
    put(path, request())
    assert _failed(path), "systemd would read none of them where the archive is unpacked"
    put(path, _GOAL)
    assert not _failed(path)


def test_a_program_without_execute_permission_never_passes(tmp_path: Path) -> None:
    members = [entry("usr/bin/user-api", b"\x7fELF", mode=0o666), entry(f"{UNITS}/user-api.service", b"[Service]\n")]
    path = write(tmp_path, "a.tar", tar(members))
    written = artifact_findings.written(put(path, _GOAL))
    for findings in (written, artifact_findings.checked(check(path, _GOAL))):
        (found,) = [item for item in findings if item.status is Status.FAIL]
        assert "usr/bin/user-api, the program of user-api, is not executable" in found.message
        assert found.remedies[0].title == "chmod +x user-api before it is packed"
    # A file of that name that is no program, such as the completion of a shell.
    other = [entry("usr/bin/user-api", b"\x7fELF"), entry("usr/share/complete/user-api", b"#!", mode=0o644)]
    path = write(tmp_path, "b.tar", tar(other))
    put(path, _GOAL)
    assert not _failed(path)


def test_a_wheel_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path, "shop-1.0-py3-none-any.whl", zipped([("shop/user-api", b"elf"), ("shop-1.0.dist-info/RECORD", b"")])
    )
    with pytest.raises(ArtifactError, match="RECORD") as caught:
        put(path)
    assert caught.value.code.code == "CGP306"
