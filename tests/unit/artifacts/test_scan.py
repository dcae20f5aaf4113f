"""What a scan notes and refuses, member by member, and which paths matter to a plan."""

import pytest

from cgroup_preflight.artifacts.model import KEEP_ALL_MAX, KEEP_MAX, ArtifactError, Limits, Member, MemberKind
from cgroup_preflight.artifacts.overrides import Effect, Override, UnitPaths
from cgroup_preflight.artifacts.scan import Scan
from tests.unit.artifacts.making import DROP_IN, MANIFEST, SLICE, UNITS, request
from tests.unit.artifacts.overrides import NESTED


def _member(path: str, kind: MemberKind = MemberKind.FILE, **more: object) -> Member:
    values: dict[str, object] = {"path": path, "raw_name": path, "kind": kind, "executable": False}
    return Member(**(values | more))  # type: ignore[arg-type]


def _scan(**limits: int) -> Scan:
    return Scan(request=request(), limits=Limits(**limits))


def test_limits_hold_exactly() -> None:
    scan = _scan(members=2, unpacked=10)
    scan.member(_member("a", size=4))
    scan.member(_member("b", size=6))
    with pytest.raises(ArtifactError, match="more than 2 members"):
        scan.member(_member("c"))
    scan = _scan(unpacked=10)
    scan.member(_member("a", size=10))
    with pytest.raises(ArtifactError, match="more than 10 bytes"):
        scan.member(_member("b", size=1))


def test_folders_may_repeat_and_files_may_not() -> None:
    scan = _scan()
    scan.member(_member("usr", MemberKind.FOLDER))
    scan.member(_member("usr", MemberKind.FOLDER))
    assert scan.folders == {"usr"}
    scan.member(_member("a"))
    for kind in (MemberKind.FILE, MemberKind.SYMLINK):
        with pytest.raises(ArtifactError, match="in the artifact twice"):
            scan.member(_member("a", kind, link="b"))


def test_the_first_name_tells_whether_names_begin_with_a_dot() -> None:
    for first, second, dotted in (("./a", "b", True), (".", "b", True), ("a", "./b", False), (".a", "./b", False)):
        scan = _scan()
        scan.member(_member(first.removeprefix("./"), raw_name=first))
        scan.member(_member(second.removeprefix("./"), raw_name=second))
        assert scan.dotted is dotted, first


def test_the_newest_member_gives_the_time() -> None:
    scan = _scan()
    for number, mtime in enumerate((5, 9, 7)):
        scan.member(_member(str(number), mtime=mtime))
    assert scan.newest == 9


@pytest.mark.parametrize(
    ("member", "wanted"),
    [
        (_member("opt/user-api", executable=True), True),
        (_member("opt/user-api"), True),
        (_member("opt/user-api.txt"), False),
        (_member("etc/init.d/user-api", executable=True), False),
        (_member("opt/etc/user-api", executable=True), True),
        (_member("opt/other", executable=True), False),
        (_member(SLICE), True),
        (_member(DROP_IN), True),
        (_member(MANIFEST), True),
        (_member("opt/api.slice"), True),
        (_member("opt/user-api.service.d/x.conf"), True),
        (_member("opt/user-api.service.d/x.txt"), False),
        (_member("opt/other.service"), False),
        (_member("opt/other.service.d/x.conf"), False),
        (_member("opt/systemd"), False),
        (_member(f"{UNITS}/x.service"), True),
        (_member(f"{UNITS}/x.socket"), False),
        (_member("usr/lib/systemd/user/x.slice"), True),
        (_member("usr/share/cgroup-preflight/other.json"), True),
        (_member("usr/share/cgroup-preflight/other.txt"), False),
    ],
    ids=lambda value: value.path if isinstance(value, Member) else "",
)
def test_whose_content_is_needed(member: Member, wanted: bool) -> None:
    assert _scan().member(member) is wanted


def test_all_that_is_kept_has_a_limit() -> None:
    scan = _scan()
    count = KEEP_ALL_MAX // KEEP_MAX
    for number in range(count + 1):
        member = _member(f"{UNITS}/{number}.service", size=KEEP_MAX)
        scan.member(member)
        scan.content(member, [b"x" * (KEEP_MAX - 1), b"x"])
    kept = [found.data is not None for found in scan.found.values()]
    assert kept == [True] * count + [False]


def test_a_program_is_noted_with_its_hash_and_copied_once(tmp_path) -> None:
    with open(tmp_path / "copy", "w+b") as copy:
        scan = Scan(request=request(), limits=Limits(), copies={"user-api": copy})
        for path, data in (("a/user-api", b"first"), ("b/user-api", b"second")):
            member = _member(path, executable=True)
            assert scan.member(member)
            scan.content(member, [data[:2], data[2:]])
        copy.seek(0)
        assert copy.read() == b"first"
    assert [item.path for item in scan.programs["user-api"]] == ["a/user-api", "b/user-api"]
    assert scan.found == {}, "a program is not kept"


def test_links_to_programs_need_a_second_scan_and_only_one() -> None:
    scan = _scan()
    scan.member(_member("bin/user-api", MemberKind.SYMLINK, link="../lib/real"))
    scan.member(_member("sbin/user-api", MemberKind.HARDLINK, link="lib/real", executable=True))
    again = scan.again()
    assert again is not None
    assert again.linked == {"lib/real": [("bin/user-api", "user-api"), ("sbin/user-api", "user-api")]}
    assert again.member(_member("lib/real"))
    again.content(_member("lib/real"), [b"elf"])
    assert [item.path for item in again.programs["user-api"]] == ["bin/user-api", "sbin/user-api"]
    again.member(_member("bin/user-api", MemberKind.SYMLINK, link="../lib/real"))
    assert again.again() is None
    assert _scan().again() is None


@pytest.mark.parametrize(
    ("kind", "refused"),
    [(MemberKind.SYMLINK, False), (MemberKind.HARDLINK, False), (MemberKind.OTHER, True), (MemberKind.FOLDER, True)],
)
def test_a_unit_may_be_a_link_and_nothing_else(kind: MemberKind, refused: bool) -> None:
    scan = Scan(request=request(service_units=True), limits=Limits())
    member = _member(f"{UNITS}/user-api.service", kind, link="x.service")
    if refused:
        with pytest.raises(ArtifactError, match=f"is the path of a file of the plan, but is a {kind.value}"):
            scan.member(member)
    else:
        assert scan.member(member) is False


@pytest.mark.parametrize("kind", [MemberKind.SYMLINK, MemberKind.HARDLINK, MemberKind.OTHER, MemberKind.FILE])
def test_a_folder_above_a_unit_must_be_one(kind: MemberKind) -> None:
    with pytest.raises(ArtifactError, match="must be a folder for unit files, but is a"):
        _scan().member(_member("usr/lib", kind, link="x"))


def test_hard_links_to_what_may_change_are_noted() -> None:
    scan = _scan()
    scan.member(_member("copy", MemberKind.HARDLINK, link=SLICE))
    scan.member(_member("other", MemberKind.HARDLINK, link="README"))
    scan.member(_member("soft", MemberKind.SYMLINK, link=DROP_IN))
    assert scan.link_targets == {SLICE}


_PATHS = UnitPaths(request(NESTED), "")
_OURS = f"{UNITS}/user-api.service.d/10-cgroup-preflight.conf"
_NESTED_SLICE, _TOP_SLICE = (f"{UNITS}/{unit}.slice.d/10-cgroup-preflight.conf" for unit in ("shop-api", "shop"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (_OURS, []),
        (_NESTED_SLICE, []),
        (f"{UNITS}/shop-api.slice", [(_NESTED_SLICE, Effect.MAY_MASK)]),
        ("etc/systemd/system/shop-api.slice", [(_NESTED_SLICE, Effect.MAY_MASK)]),
        ("etc/systemd/system/user-api.service.d/10-cgroup-preflight.conf", [(_OURS, Effect.HIDES)]),
        ("etc/systemd/system/user-api.service.d/90-x.conf", [(_OURS, Effect.CHANGES)]),
        (f"{UNITS}/user-api.service.d/10-cgroup-preflight.cong.conf", [(_OURS, Effect.CHANGES)]),
        (f"{UNITS}/user-api.service.d/10-cgroup-preflighs.conf", []),
        (f"{UNITS}/user-api.service.d/90-x.conf.bak", []),
        (f"{UNITS}/user-api.service.d/sub/90-x.conf", []),
        (f"{UNITS}/service.d/90-x.conf", [(_OURS, Effect.CHANGES)]),
        (f"{UNITS}/user-.service.d/90-x.conf", [(_OURS, Effect.CHANGES)]),
        (f"{UNITS}/shop-api.slice.d/10-x.conf", [(_NESTED_SLICE, Effect.CHANGES)]),
        (f"{UNITS}/shop-.slice.d/10-x.conf", [(_NESTED_SLICE, Effect.CHANGES)]),
        (f"{UNITS}/slice.d/10-x.conf", [(_NESTED_SLICE, Effect.CHANGES)]),
        ("opt/user-api.service.d/90-x.conf", []),
        ("etc/systemd/user/shop-api.slice", []),
    ],
)
def test_which_files_override_which(path: str, expected: list[tuple[str, Effect]]) -> None:
    found = [item for item in _PATHS.overrides(path) if item.ours != _TOP_SLICE]
    assert found == [Override(ours=ours, effect=effect) for ours, effect in expected]


@pytest.mark.parametrize("service_units", [True, False])
def test_a_drop_in_overrides_a_whole_unit_whatever_its_name(service_units: bool) -> None:
    """The unit file is read before all drop-ins; ours among them is read before those with later names."""
    paths = UnitPaths(request(service_units=service_units), "")
    unit = Override(ours=f"{UNITS}/user-api.service", effect=Effect.CHANGES)
    assert paths.overrides(f"{UNITS}/user-api.service.d/05-x.conf") == ((unit,) if service_units else ())
    assert (unit in paths.overrides(f"{UNITS}/user-api.service.d/90-x.conf")) is service_units


@pytest.mark.parametrize(
    ("path", "label"),
    [
        (f"{UNITS}/user-api.service", "user-api"),
        ("etc/systemd/system/user-api.service", "user-api"),
        ("lib/systemd/system/user-api.service", "user-api"),
        ("lib/systemd/user/user-api.service", None),
        ("opt/user-api.service", None),
        (f"{UNITS}/other.service", None),
    ],
)
def test_where_the_unit_of_a_service_is(path: str, label: str | None) -> None:
    assert _PATHS.unit_of(path) == label
