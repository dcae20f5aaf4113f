"""What is read of a built package: name, version, needs, units, drop-ins; and what is no package."""

import hashlib

import pytest

from cgroup_preflight.core.errors import UsageError
from tests.unit.packages.making import SERVICE, UNITS, control, deb, package, release

OWN = "10-cgroup-preflight-user-api.conf"


@pytest.mark.parametrize("codec", ["", "gz", "xz", "zst", "bz2"])
def test_a_deb_is_read_whatever_it_is_packed_with(tmp_path, codec):
    data = deb(
        {f"{UNITS}/user-api.service": SERVICE, "usr/bin/user-api": "x"}, control(Depends="libc6 (>= 2.3)"), codec
    )
    found = package(tmp_path, data)
    assert (found.name, found.version, found.kind) == ("user-api", "1.0", "deb")
    assert found.fields["depends"] == "libc6 (>= 2.3)"
    assert dict(found.units) == {f"{UNITS}/user-api.service": SERVICE}
    assert (found.sha256, found.size) == (hashlib.sha256(data).hexdigest(), len(data))


def test_units_in_all_folders_of_systemd_count_and_others_do_not(tmp_path):
    files = dict.fromkeys(
        ("lib/systemd/system/a.service", "etc/systemd/system/b.service", "usr/lib/systemd/system/c.socket",
         "usr/lib/systemd/user/d.service", "usr/share/doc/e.service", "usr/lib/systemd/system/sub/f.service"), SERVICE
    )  # fmt: skip
    found = package(tmp_path, deb(files))
    assert found.services == ("a.service", "b.service")
    assert list(found.units) == [
        "etc/systemd/system/b.service", "usr/lib/systemd/system/c.socket", "lib/systemd/system/a.service"
    ]  # fmt: skip


def test_units_with_limits_of_this_tool_are_known(tmp_path):
    files = {
        f"{UNITS}/user-api.service": SERVICE, f"{UNITS}/user-api.service.d/{OWN}": "[Service]\nMemoryMax=1G\n",
        f"{UNITS}/api.slice.d/10-cgroup-preflight.conf": "[Slice]\nTasksMax=5\n",
        f"{UNITS}/other.service.d/50-mine.conf": "[Service]\nTasksMax=5\n",
    }  # fmt: skip
    assert package(tmp_path, deb(files)).limited == {"user-api.service", "api.slice"}


@pytest.mark.parametrize("codec", ["", "gz", "xz", "bz2"])
def test_a_tar_archive_is_unpacked_from_its_one_top_folder(tmp_path, codec):
    data = release({f"shop-1.0/{UNITS}/user-api.service": SERVICE, "shop-1.0/usr/bin/user-api": "x"}, codec)
    found = package(tmp_path, data, "shop-1.0.tar.gz")
    assert (found.kind, found.prefix, found.name) == ("tar", "shop-1.0", "shop-1.0.tar.gz")
    assert dict(found.units) == {f"{UNITS}/user-api.service": SERVICE}


@pytest.mark.parametrize(
    ("files", "prefix", "found"),
    [
        ((f"{UNITS}/a.service", "usr/bin/a"), "auto", ("", ("a.service",))),
        ((f"x/{UNITS}/a.service", "README"), "auto", ("", ())),
        ((f"x/{UNITS}/a.service", "README"), "x", ("x", ("a.service",))),
        ((f"x/y/{UNITS}/a.service",), "x/y", ("x/y", ("a.service",))),
    ],
)
def test_the_prefix_of_an_archive(tmp_path, files, prefix, found):
    made = package(tmp_path, release(dict.fromkeys(files, SERVICE)), "a.tar.gz", prefix=prefix)
    assert (made.prefix, made.services) == found


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither a deb nor a tar archive"),
        (b"\x7fELF" + bytes(600), "neither a deb nor a tar archive"),
        (b"!<arch>\nno members of any kind", "damaged or truncated"),
        (deb({f"{UNITS}/a.service": SERVICE})[:-400], "truncated"),
        (release({"a": "b"}, "zst"), "a guest does not unpack zst"),
        (deb({"../../etc/passwd": "x"}), "leads out of the artifact"),
        (deb({f"{UNITS}/{number}.service": "x" * 60_000 for number in range(10)}), "larger than 512K"),
    ],
)
def test_what_is_no_package_is_refused_in_one_line(tmp_path, data, words):
    with pytest.raises(UsageError) as refused:
        package(tmp_path, data)
    assert words in refused.value.message
    assert "user-api.deb" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["absent.deb", "."])
def test_what_is_no_file_is_refused(tmp_path, name):
    from cgroup_preflight.packages.package_file import read_package

    with pytest.raises(UsageError) as refused:
        read_package(str(tmp_path / name), name)
    assert refused.value.where == name
