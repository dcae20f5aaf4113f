"""Files that systemd reads before or over those of the plan; links by which a member ends up elsewhere."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from cgroup_preflight.artifacts import findings as artifact_findings
from cgroup_preflight.artifacts.model import ArtifactError, Limits
from cgroup_preflight.artifacts.scan import Links
from cgroup_preflight.core.report import Status
from tests.unit.artifacts import making
from tests.unit.artifacts.making import DROP_IN, MANIFEST, SLICE, UNITS, check, entry, put, request, tar, write
from tests.unit.artifacts.overrides import NESTED, OVERRIDES


@pytest.mark.parametrize("name", OVERRIDES)
def test_what_overrides_the_plan_fails_the_check(tmp_path: Path, name: str) -> None:
    override, data, changes = OVERRIDES[name]
    goal = request(NESTED)
    path = write(tmp_path, "a.tar", tar([entry("usr/bin/user-api", b"elf"), entry(override, data)]))
    done = put(path, goal, force=True)
    warned = [item for item in artifact_findings.written(done) if item.code == "CGP308" and item.status is Status.WARN]
    failed = [item for item in artifact_findings.checked(check(path, goal)) if item.status is Status.FAIL]
    assert (bool(warned), bool(failed)) == (changes, changes)
    assert all(item.code == "CGP308" and repr(override) in item.message for item in failed)


@pytest.mark.parametrize(
    ("unit", "setting", "changes"),
    [
        ("user-api.service", "CPUQuotaPeriodSec=10ms", True),
        ("user-api.service", "StartupCPUQuota=90%", True),
        ("user-api.service", "StartupMemoryMax=1G", False),
        ("user-api.service", "PAMName=login", True),
        ("user-api.service", "PAMName=", False),
        ("user-api.service", "DisableControllers=memory", False),
        ("shop-api.slice", "DisableControllers=memory", True),
        ("shop-api.slice", "DisableControllers=", False),
        ("shop-api.slice", "CPUQuotaPeriodSec=10ms", False),
        ("shop-api.slice", "StartupMemoryMax=1G", True),
    ],
)
def test_settings_that_change_what_a_setting_of_the_plan_does(tmp_path: Path, unit: str, setting: str, changes: bool):
    goal, drop_in = request(NESTED), f"{UNITS}/{unit}.d/90-x.conf"
    section = "Slice" if unit.endswith(".slice") else "Service"
    changed = entry(drop_in, f"[{section}]\n{setting}\n".encode())
    path = write(tmp_path, "a.tar", tar([entry("usr/bin/user-api", b"elf"), changed]))
    put(path, goal)
    failed = [item for item in artifact_findings.checked(check(path, goal)) if item.status is Status.FAIL]
    assert [setting in item.message for item in failed] == [True] * changes


def test_a_mask_overrides_and_a_slice_of_the_artifact_does_not(tmp_path: Path) -> None:
    mask = entry("etc/systemd/system/api.slice", None, type=tarfile.SYMTYPE, linkname="/dev/null")
    path = write(tmp_path, "a.tar", tar([mask]))
    put(path)
    assert [item.code for item in artifact_findings.checked(check(path)) if item.status is Status.FAIL] == ["CGP308"]
    shipped = entry(making.SLICE_UNIT, b"[Slice]\nIOWeight=50\nMemoryMax=9G\n")
    path = write(tmp_path, "b.tar", tar([shipped]))
    put(path)
    assert making.members(Path(path).read_bytes())[making.SLICE_UNIT] == shipped[1], "it keeps its other settings"
    assert not [item for item in artifact_findings.checked(check(path)) if item.status is Status.FAIL]


def test_overrides_through_links_and_in_the_user_layout(tmp_path: Path) -> None:
    link = entry("conf", None, type=tarfile.SYMTYPE, linkname="etc")
    path = write(
        tmp_path, "a.tar", tar([entry("conf/systemd/system/api.slice.d/x.conf", b"[Slice]\nMemoryMax=9G\n"), link])
    )
    put(path)
    assert [item.code for item in artifact_findings.checked(check(path)) if item.status is Status.FAIL] == ["CGP308"]
    goal = request(layout="user", prefix="opt/shop")
    override = entry("opt/shop/usr/share/systemd/user/api.slice", b"")
    path = write(tmp_path, "b.tar", tar([override]))
    put(path, goal)
    assert [item.code for item in artifact_findings.checked(check(path, goal)) if item.status is Status.FAIL] == [
        "CGP308"
    ]


_CHAINS = {
    "two links": [("a", "b"), ("b", "usr")],
    "in the other order": [("b", "usr"), ("a", "b")],
    "absolute": [("a", "/usr")],
    "up and down": [("x/y", "../usr"), ("a", "x/y")],
}


@pytest.mark.parametrize("name", _CHAINS)
@pytest.mark.parametrize(
    "last",
    ["lib/systemd/system/api.slice.d/10-cgroup-preflight.conf", "lib/systemd", "share/cgroup-preflight/shop.json"],
)
@pytest.mark.parametrize("first", [True, False])
def test_no_chain_of_links_leads_to_our_places(tmp_path: Path, name: str, last: str, first: bool) -> None:
    links = [entry(path, None, type=tarfile.SYMTYPE, linkname=target) for path, target in _CHAINS[name]]
    file = [entry(f"a/{last}", b"x")]
    path = write(tmp_path, "a.tar", tar([*file, *links] if first else [*links, *file]))
    with pytest.raises(ArtifactError, match="through a link"):
        put(path, force=True)


def test_a_link_below_a_link_does_not_replace_a_folder_of_ours(tmp_path: Path) -> None:
    links = [("a", "usr"), ("a/lib", "/tmp")]
    path = write(tmp_path, "a.tar", tar(entry(name, None, type=tarfile.SYMTYPE, linkname=to) for name, to in links))
    with pytest.raises(ArtifactError, match="through a link"):
        put(path)


def test_links_of_a_zip_are_followed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("b")
        link.external_attr, link.create_system = 0o120777 << 16, 3
        archive.writestr(link, b"usr")
        archive.writestr("b/lib/systemd/system/api.slice.d/10-cgroup-preflight.conf", b"x")
    with pytest.raises(ArtifactError, match="through a link"):
        put(str(tmp_path / "a.zip"))


def test_following_ends_with_a_loop_and_stays_inside() -> None:
    links = Links("", 10)
    for path, target in (("a", "b"), ("b", "a"), ("up", "../../.."), ("c", "./d/"), ("d", "e")):
        links.add(path, target)
    assert links.place("a/x") == "a/x"
    assert links.place("up/x") == "x"
    assert (links.place("c/x"), links.place("c"), links.target("c")) == ("e/x", "c", "e")
    with pytest.raises(ArtifactError, match="more than 1 symbolic links"):
        put_links(Links("", 1))


def put_links(links: Links) -> None:
    links.add("a", "b")
    links.add("b", "c")


def test_units_that_are_links_are_no_conflict(tmp_path: Path) -> None:
    """Aliases and masks, as Debian's packages have them."""
    links = [("x11-common", "/dev/null"), ("user-api", "shop@user-api.service")]
    members = [entry(f"{UNITS}/{name}.service", None, type=tarfile.SYMTYPE, linkname=to) for name, to in links]
    path = write(tmp_path, "a.tar", tar([entry("usr/bin/user-api", b"elf"), *members]))
    put(path, request(service_units=True))
    assert f"{UNITS}/user-api.service.d/10-cgroup-preflight.conf" in making.members(Path(path).read_bytes())


@pytest.mark.parametrize("folder", [f"{UNITS}/old", "etc/systemd/system/user-api", "lib/systemd/system/user-api"])
def test_a_drop_in_of_ours_that_nothing_accounts_for_fails_the_check(tmp_path: Path, folder: str) -> None:
    stale = f"{folder}.service.d/10-cgroup-preflight.conf"
    path = write(tmp_path, "a.tar", tar([entry(stale, b"[Service]\nMemoryMax=1G\n")]))
    assert [found.member.path for found in check(path).edit.dropped] == [stale]
    with pytest.raises(ArtifactError, match="nor a manifest") as caught:
        put(path)
    assert caught.value.code.code == "CGP303"
    put(path, force=True)
    assert stale not in making.members(Path(path).read_bytes())
    assert check(path).edit.empty


def test_another_layout_takes_the_place_of_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tar", tar(making.tree()))
    put(path)
    put(path, request(layout="user"))
    names = making.members(Path(path).read_bytes())
    assert not [name for name in names if name.startswith(UNITS)]


def test_two_projects_may_share_an_artifact(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tar", tar(making.tree()))
    put(path)
    other = making.ONE_SERVICE.replace("api", "web")
    goal = request(f'[project]\nname = "store"\n{other}')
    put(path, goal)
    assert {SLICE, DROP_IN, MANIFEST} <= making.members(Path(path).read_bytes()).keys()
    for item in (request(), goal):
        assert check(path, item).edit.empty
        warned = [
            found.message for found in artifact_findings.checked(check(path, item)) if found.status is Status.WARN
        ]
        assert len(warned) == 1, "each says that the other is there"


def test_so_many_links_that_they_cannot_be_remembered(tmp_path: Path) -> None:
    links = [entry(str(number), None, type=tarfile.SYMTYPE, linkname="x") for number in range(5)]
    path = write(tmp_path, "a.tar", tar(links))
    with pytest.raises(ArtifactError, match="more than 4 symbolic links"):
        put(path, limits=Limits(members=40))


@pytest.mark.parametrize("changed", [True, False])
def test_a_drop_in_of_another_project_is_theirs_only_as_they_left_it(tmp_path: Path, changed: bool) -> None:
    path = write(tmp_path, "a.tar", tar(making.tree()))
    put(path, request(f'[project]\nname = "store"\n{making.ONE_SERVICE.replace("api", "web")}'))
    theirs = f"{UNITS}/user-web.service.d/10-cgroup-preflight.conf"
    members = making.members(Path(path).read_bytes())
    assert theirs in members
    if changed:
        members[theirs] += b"MemoryMax=1G\n"
    path = write(tmp_path, "b.tar", tar(entry(name, data) for name, data in members.items()))
    assert [found.member.path for found in check(path).edit.dropped] == ([theirs] if changed else [])


@pytest.mark.parametrize("folder", [f"{UNITS}/other.socket.d", f"{UNITS}/other.d", "opt/other.service.d"])
def test_the_name_of_our_drop_in_elsewhere_is_not_ours(tmp_path: Path, folder: str) -> None:
    name = f"{folder}/10-cgroup-preflight.conf"
    path = write(tmp_path, "a.tar", tar([entry(name, b"theirs")]))
    put(path)
    assert making.members(Path(path).read_bytes())[name] == b"theirs"
    assert name not in check(path).scan.found
