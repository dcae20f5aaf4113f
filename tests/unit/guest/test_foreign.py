"""Roots from elsewhere: hostile archives write nothing outside, and what is in a root is said before it boots."""

import contextlib
import io
import json
import os
import tarfile

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgroup_preflight.config import keys
from cgroup_preflight.config.keys import SECTIONS
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.guest import foreign, foreign_tree, foreign_unpack, image
from cgroup_preflight.guest.foreign_tree import ForeignError, ForeignTree, Owner

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other users")
ELF = b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00" + bytes(10)
OWNER = Owner(mode=0o755, uid=0, gid=0)


def member(name, kind=tarfile.REGTYPE, content=b"", link="", mode=0o644, uid=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode, info.uid = kind, link, len(content), mode, uid
    return info, content


def archive(path, *members):
    with tarfile.open(path, "w") as file:
        for info, content in members:
            file.addfile(info, io.BytesIO(content))
    return str(path)


def usual():
    """What every root has."""
    return (
        member("./usr/lib/systemd/systemd", content=ELF, mode=0o755),
        member("./usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-255.so", content=b"x"),
        member("./bin", tarfile.SYMTYPE, link="usr/bin"),
        *(member(f"./usr/bin/{name}", content=b"x", mode=0o755) for name in foreign_unpack.NEEDED),
        member("./etc/os-release", content=b'NAME=x\nPRETTY_NAME="Some OS 1.0"\n'),
        member("./var/lib/dpkg/status", content=b"Package: dbus\nStatus: x\nVersion: 1.2\n\nPackage: a\nVersion: 3\n"),
        member("./usr/lib/systemd/system/x.service", content=b"[Service]\n"),
        member("./etc/systemd/system/y.service", tarfile.SYMTYPE, link="/dev/null"),
    )


def unpacked(tmp_path, *members, files=None):
    return foreign_unpack.unpack(archive(tmp_path / "a.tar", *members), str(tmp_path / "root"), files or {})


@needs_root
def test_a_root_and_what_is_known_of_it(tmp_path):
    tree = unpacked(tmp_path, *usual())
    found = foreign_unpack.found_in(tree)
    assert (found["init"], found["systemd"], found["lacks"], found["foreign"]) == (
        "/usr/lib/systemd/systemd",
        255,
        [],
        False,
    )
    assert (found["title"], found["packages"], found["file_server"]) == ("Some OS 1.0", {"dbus": "1.2", "a": "3"}, "")
    foreign_unpack.write_results(tree, str(tmp_path))
    assert "/bin/sh\n" in (tmp_path / "listing").read_text()
    assert "/usr/bin/sh\n" in (tmp_path / "listing").read_text()
    with tarfile.open(tmp_path / "units.tar") as units:
        assert units.getnames() == ["etc/systemd/system/y.service", "usr/lib/systemd/system/x.service"]
    assert json.loads((tmp_path / "found.json").read_text()) == found
    assert (tmp_path / "root/proc").is_dir()


@pytest.mark.parametrize(("begin", "words"), [
    (b"QFI\xfb", "image of a disk"), (b"\x28\xb5\x2f\xfd", "zstd -d"), (b"hsqs", "unsquashfs"), (b"PK\x03\x04", "zip"),
])  # fmt: skip
def test_what_is_no_tar_archive_is_named(tmp_path, begin, words):
    (tmp_path / "a.tar").write_bytes(begin + bytes(2000))
    with pytest.raises(ForeignError, match=words):
        foreign_unpack.unpack(str(tmp_path / "a.tar"), str(tmp_path / "root"), {})


@needs_root
def test_the_disk_of_a_cloud_image_is_no_root(tmp_path):
    with pytest.raises(ForeignError, match=r"image of a disk \(disk.raw\)"):
        unpacked(tmp_path, member("disk.raw", content=b"x"))
    (tmp_path / "other").mkdir()
    unpacked(tmp_path / "other", *usual(), member("disk.raw", content=b"x"))


@needs_root
def test_what_it_lacks_is_said_at_once(tmp_path):
    found = foreign_unpack.found_in(
        unpacked(tmp_path, member("bin/sh"), member("lib/systemd/systemd", content=b"\x7fELF\x01"))
    )
    assert (found["init"], found["foreign"], "mount" in found["lacks"], "sh" in found["lacks"]) == (
        "/lib/systemd/systemd", True, True, False,
    )  # fmt: skip
    with pytest.raises(HostError, match=r"cannot become a guest: it lacks a systemd for x86-64, the program cat"):
        foreign._judge(found, tmp_path / "a.tar")
    old = {**found, "foreign": False, "systemd": 239, "lacks": []}
    with pytest.raises(HostError, match=r"systemd 244 or later \(it has 239\)"):
        foreign._judge(old, tmp_path / "a.tar")
    foreign._judge({**old, "systemd": 0}, tmp_path / "a.tar")
    with pytest.raises(HostError, match=r"it lacks systemd$"):
        foreign._judge({**old, "init": ""}, tmp_path / "a.tar")


@needs_root
@pytest.mark.parametrize(
    ("members", "where"),
    [
        ([member("../../escaped", content=b"x")], "escaped"),
        ([member("/escaped", content=b"x")], "escaped"),
        ([member("out", tarfile.SYMTYPE, link="/"), member("out/escaped", content=b"x")], "escaped"),
        ([member("out", tarfile.SYMTYPE, link="../../.."), member("out/etc/escaped", content=b"x")], "etc/escaped"),
        (
            [member("a/b", tarfile.SYMTYPE, link="/c"), member("c/d", content=b"1"), member("a/b/d", content=b"x")],
            "c/d",
        ),
        ([member("etc", tarfile.SYMTYPE, link="/home"), member("etc/escaped", tarfile.DIRTYPE)], "home/escaped"),
        ([member("f", content=b"1"), member("f/escaped", content=b"x")], "f/escaped"),
    ],
)
def test_a_path_means_what_it_means_in_its_own_root(tmp_path, members, where):
    (tmp_path / "deep/er").mkdir(parents=True)
    tree = foreign_unpack.unpack(archive(tmp_path / "a.tar", *members), str(tmp_path / "deep/er/root"), {})
    assert os.path.lexists(tree.at(where))
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if "deep/er/root" not in str(path)}
    assert names == {"a.tar", "deep", "deep/er"}


@needs_root
def test_our_files_do_not_follow_a_link_out(tmp_path):
    members = [member("etc/systemd", tarfile.SYMTYPE, link="/srv/preflight-test"),
               member("etc/hostname", tarfile.SYMTYPE, link="/srv/preflight-test/name")]  # fmt: skip
    ours = {"/etc/systemd/system/x.service": {"content": "x", "mode": 0o644, "link": ""},
            "/etc/hostname": {"content": "guest", "mode": 0o644, "link": ""}}  # fmt: skip
    tree = unpacked(tmp_path, *members, files=ours)
    assert not os.path.lexists("/srv/preflight-test")
    assert tree.find("etc/systemd/system/x.service") == "srv/preflight-test/system/x.service"
    assert (tmp_path / "root/etc/hostname").read_text() == "guest"


@needs_root
def test_no_device_and_nothing_that_a_boot_makes(tmp_path):
    members = [member("disk", tarfile.BLKTYPE), member("null", tarfile.CHRTYPE), member("pipe", tarfile.FIFOTYPE),
               member("dev/x", content=b"x"), member("run/x", content=b"x"), member("proc/1/x", tarfile.DIRTYPE),
               member(".dockerenv"), member("etc/machine-id", content=b"1")]  # fmt: skip
    tree = unpacked(tmp_path, *members)
    assert tree.files == {}
    assert tree.left_out == 5
    assert list((tmp_path / "root/dev").iterdir()) == []


@needs_root
def test_owners_and_rights_come_along(tmp_path):
    members = [member("d", tarfile.DIRTYPE, mode=0o1777, uid=7), member("d/s", content=b"x", mode=0o4755, uid=1000),
               member("big", content=b"x", uid=1 << 20), member("l", tarfile.SYMTYPE, link="/d", uid=9)]  # fmt: skip
    tree = unpacked(tmp_path, *members)
    folder, file = os.stat(tree.at("d")), os.stat(tree.at("d/s"))
    assert (folder.st_mode & 0o7777, folder.st_uid, file.st_mode & 0o7777, file.st_uid) == (0o1777, 7, 0o4755, 1000)
    assert (os.stat(tree.at("big")).st_uid, os.lstat(tree.at("l")).st_uid) == (0, 9)


@needs_root
def test_hard_links_lead_to_files_of_the_archive_only(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s")
    members = [member("a", content=b"1"), member("b", tarfile.LNKTYPE, link="./a"),
               member("c", tarfile.LNKTYPE, link="../secret"), member("d", tarfile.LNKTYPE, link=str(secret)),
               member("l", tarfile.SYMTYPE, link=str(secret)), member("e", tarfile.LNKTYPE, link="l"),
               member("a", tarfile.LNKTYPE, link="a")]  # fmt: skip
    tree = unpacked(tmp_path, *members)
    assert os.stat(tree.at("a")).st_ino == os.stat(tree.at("b")).st_ino
    assert os.readlink(tree.at("e")) == str(secret)
    assert not os.path.lexists(tree.at("c"))
    assert not os.path.lexists(tree.at("d"))
    assert secret.stat().st_nlink == 1


@needs_root
def test_a_later_file_replaces_an_earlier_one(tmp_path):
    members = [member("a", content=b"old"), member("a", content=b"new"), member("b", tarfile.SYMTYPE, link="/x"),
               member("b", content=b"file"), member("c/d", content=b"1"), member("c", tarfile.SYMTYPE, link="/x")]  # fmt: skip
    tree = unpacked(tmp_path, *members)
    assert (tree.read("a", 9), tree.read("b", 9), tree.find("c/d")) == (b"new", b"file", "c/d")


@needs_root
@pytest.mark.parametrize(
    ("limit", "value", "said"), [("BYTES_MAX", 5, "more than 0 GiB"), ("_FILES_MAX", 3, "more than 3 files")]
)
def test_limits(tmp_path, monkeypatch, limit, value, said):
    monkeypatch.setattr(foreign_tree, limit, value)
    with pytest.raises(ForeignError, match=said):
        unpacked(tmp_path, *(member(f"f{number}", content=b"xx") for number in range(4)))


@needs_root
@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "no archive"), (b"x" * 2000, "no archive"), (b"\x1f\x8b\x08garbage" * 50, "no archive")],
)
def test_what_is_no_archive(tmp_path, data, said):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ForeignError, match=said):
        foreign_unpack.unpack(str(tmp_path / "a.tar"), str(tmp_path / "root"), {})


@needs_root
def test_a_cut_archive(tmp_path):
    path = archive(tmp_path / "a.tar", member("a", content=b"x" * 5000))
    os.truncate(path, 3000)
    with pytest.raises(ForeignError, match="no archive"):
        foreign_unpack.unpack(path, str(tmp_path / "root"), {})


@needs_root
def test_an_image_in_layers(tmp_path):
    with pytest.raises(ForeignError, match="docker export"):
        unpacked(tmp_path, member("manifest.json", content=b"[]"), member("abc/layer.tar", content=b"x"))


@needs_root
def test_entries_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign_unpack, "_MEMBERS_MAX", 3)
    with pytest.raises(ForeignError, match="more than 3 entries"):
        unpacked(tmp_path, *(member(f"n{number}", tarfile.CHRTYPE) for number in range(6)))


@needs_root
def test_names_that_no_file_can_have(tmp_path):
    tree = ForeignTree(str(tmp_path / "root"))
    for name in ("x" * 256, "a/" * 3000, "a\0b"):
        with pytest.raises(ForeignError, match=r"path|name"):
            tree.add_file(name, io.BytesIO(b""), 0, OWNER)
    tree.add_link("loop", "loop", OWNER)
    assert tree.add_file("loop/x", io.BytesIO(b""), 0, OWNER) == ""
    tree.add_link("empty", "", OWNER)
    assert "empty" not in tree.links


_NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "/", "etc", "usr"]), min_size=1, max_size=5).map("/".join)
_MEMBERS = st.tuples(
    _NAMES, st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]), _NAMES
)


@needs_root
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_MEMBERS, max_size=12))
def test_no_archive_writes_outside(tmp_path_factory, members):
    top = tmp_path_factory.mktemp("x")
    (top / "in").mkdir()
    path = archive(
        top / "a.tar",
        *(member(name, kind, b"1" if kind == tarfile.REGTYPE else b"", link) for name, kind, link in members),
    )
    ours = {f"/{name}/ours": {"content": "o", "mode": 0o600, "link": ""} for name in ("a/b", "etc")}
    with contextlib.suppress(ForeignError):
        tree = foreign_unpack.unpack(path, str(top / "in/root"), ours)
        for known in (*tree.files, *tree.links, *tree.folders):
            parent = os.path.dirname(tree.at(known)) if known else str(top / "in")
            assert os.path.realpath(parent) == parent
    outside = [item for item in top.rglob("*") if not str(item).startswith(str(top / "in/root"))]
    assert sorted(item.name for item in outside) == ["a.tar", "in"]


@pytest.mark.parametrize("name", ["debian-12", "Ubuntu", "a/b", "../x", "", "-x", "a--b", "x" * 41, "a b", "a\n"])
def test_names_of_images_that_are_refused(name):
    with pytest.raises(UsageError):
        foreign.check_name(name)


@pytest.mark.parametrize("name", ["ubuntu-24.04", "rhel9", "debian-11"])
def test_names_of_images(name):
    foreign.check_name(name)


@pytest.mark.parametrize(
    ("name", "taken"),
    [("debian-12", True), ("ubuntu-24.04", True), ("Ubuntu", False), ("a b", False), ("", False), ("-", False),
     ("a" * 40, True), ("a" * 41, False), ("x;reboot", False)],
)  # fmt: skip
def test_a_config_takes_the_names_that_an_import_takes(name, taken):
    (key,) = [key for key in SECTIONS["target"].keys if key.name == "distro"]
    assert (foreign.NAME.pattern, foreign.NAME_MAX) == (keys._IMPORTED, keys._IMPORTED_MAX)
    assert jsonschema.Draft202012Validator(key.schema).is_valid(name) == taken
    if taken:
        assert key.parse(name) == name
    else:
        with pytest.raises(QuantityError, match="not one of the allowed words") as error:
            key.parse(name)
        assert "guest import" in error.value.hint


def put(folder, name, **changes):
    home = folder / name
    home.mkdir(parents=True)
    (home / "root.ext4").write_bytes(b"")
    (home / "bare").touch()
    (home / "manifest.json").write_text("{}")
    data = {"title": "T\x1b[1m", "init": "/lib/systemd/systemd", "systemd": 247, "file_server": "", "packages": {"a": "1"},
            "left_out": 2, **changes}  # fmt: skip
    (home / "found.json").write_text(json.dumps(data))


def test_images_from_elsewhere_are_found_by_name(tmp_path):
    put(tmp_path, "ubuntu-24.04-0123456789abcdef")
    item = foreign.imported("ubuntu-24.04", tmp_path)
    assert item is not None
    assert (item.distro, item.bare, foreign.imported("ubuntu", tmp_path)) == ("ubuntu-24.04", True, None)
    assert [one.name for one in foreign.list_imported(tmp_path)] == [item.name]
    assert "\x1b" not in foreign.found_of(item).title
    assert foreign.kernel_args(foreign.found_of(item))[0] == "init=/lib/systemd/systemd"


@pytest.mark.parametrize("init", ["/sbin/init ubd5=/etc/shadow", "/x", ""])
def test_no_word_of_the_archive_reaches_the_command_line_of_a_kernel(tmp_path, init):
    put(tmp_path, "x-0123456789abcdef", init=init, file_server=init)
    found = foreign.found_of(image.image_in(tmp_path / "x-0123456789abcdef"))
    assert (found.init, found.file_server) == ("", "")


@needs_root
@pytest.mark.parametrize(
    ("members", "where"),
    [
        ([], "lib/modules"),
        ([member("usr/lib/x"), member("lib", tarfile.SYMTYPE, link="usr/lib")], "usr/lib/modules"),
        ([member("lib/modules", tarfile.SYMTYPE, link="/srv/nowhere")], "srv/nowhere"),
        ([member("lib/modules", tarfile.SYMTYPE, link="../../../../srv/nowhere")], "srv/nowhere"),
    ],
)
def test_a_root_gets_a_folder_for_the_modules_of_the_kernel(tmp_path, members, where):
    tree = unpacked(tmp_path, *members)
    assert os.path.isdir(tree.at(where))
    assert tree.resolve("lib/modules/.") == where
    assert not os.path.lexists("/srv/nowhere")


@needs_root
@pytest.mark.parametrize(
    "members",
    [
        [member("lib/modules", content=b"x")],
        [member("f", content=b"x"), member("lib/modules", tarfile.SYMTYPE, link="/f")],
        [member("lib/modules", tarfile.SYMTYPE, link="modules")],
    ],
)
def test_a_root_without_a_place_for_the_modules_is_refused(tmp_path, members):
    with pytest.raises(ForeignError, match=r"/lib/modules of it is a (file|link)") as caught:
        unpacked(tmp_path, *members)
    assert "\n" not in str(caught.value)
