"""Packages are unpacked as dpkg would, and its database says so. `chroot` and `unshare` are played."""

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.guest import package_file
from cgroup_preflight.guest import unpack as program
from cgroup_preflight.guest.maintainer import CONFIGURE, is_known
from cgroup_preflight.guest.unpack import unpack

EXCLUDED = ("/usr/share/man/*", "/usr/share/doc/*")
_PLAYED = {
    "chroot": 'printf "%s\\n" "$@" >> "$LOG.chroot"',
    "unshare": 'printf "%s\\n" "$@" > "$LOG.unshare"; [ "$2" = true ] || test -x root/usr/sbin/policy-rc.d',
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in _PLAYED.items():
        (folder / name).write_text(f"#!/bin/sh\nset -e\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.chdir(tmp_path)
    for name in ("var/cache/apt/archives", "usr/sbin"):
        (tmp_path / "root" / name).mkdir(parents=True)
    return Path("root")


def _files(root):
    return sorted((root / "var/cache/apt/archives").glob("*.deb"))


def _archive(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content or b""))
    return stream.getvalue()


def put(root, name, fields, files, **control):
    """The package file of `name`: lines of its control file after the name, files to unpack, further control files."""
    file = root / f"var/cache/apt/archives/{name}_1_amd64.deb"
    text = f"Package: {name}\n{fields}"
    control = {f"./{key}": value.encode() for key, value in {"control": text, **control}.items()}
    file.write_bytes(package(_archive({"./": None, **control}), _archive({"./": None, **files})))


_COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def package(control, data, ending=".xz"):
    """A package file (deb(5))."""
    found = b"!<arch>\n"
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar{ending}": _COMPRESS[ending](control),
        f"data.tar{ending}": _COMPRESS[ending](data),
    }
    for name, content in members.items():
        found += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )
    return found


@pytest.mark.starts_processes
def test_files_and_the_database(root):
    put(
        root,
        "base-files",
        "Version: 12\nArchitecture: amd64\n",
        {"./lib/": None, "./lib/os": b"x"},
        postinst="#!/bin/sh\n",
    )
    put(root, "libx", "Version: 1\nArchitecture: amd64\nMulti-Arch: same\nDescription: x\n more\n",
        {"./etc/": None, "./etc/x.conf": b"x=1\n", "./usr/share/doc/": None, "./usr/share/doc/x": b"", "./usr/lib/a\\x2db": b""},
        conffiles="/etc/x.conf\n", triggers="# comment\ninterest-noawait /usr/lib/x\ninterest ldconfig\nactivate-noawait y\n")  # fmt: skip
    unpack(root, EXCLUDED, _files(root))
    assert (root / "lib").readlink() == Path("usr/lib")
    assert (root / "usr/lib/os").read_bytes() == b"x"
    assert not (root / "usr/share/doc/x").exists()
    info = root / "var/lib/dpkg/info"
    assert (info / "libx:amd64.list").read_text().splitlines() == [
        "/.", "/etc", "/etc/x.conf", "/usr/share/doc", "/usr/lib/a\\x2db",
    ]  # fmt: skip
    assert (info / "base-files.postinst").stat().st_mode & 0o777 == 0o755
    assert (info / "libx:amd64.conffiles").stat().st_mode & 0o111 == 0
    assert (root / "var/lib/dpkg/status").read_text() == (
        "Package: base-files\nStatus: install ok installed\nVersion: 12\nArchitecture: amd64\n\n"
        "Package: libx\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nMulti-Arch: same\n"
        "Description: x\n more\nConffiles:\n /etc/x.conf f968f33f844c98de1d3b4fe70f2e1a0f\n"
    )
    triggers = root / "var/lib/dpkg/triggers"
    assert (triggers / "File").read_text() == "/usr/lib/x libx/noawait\n"
    assert (triggers / "ldconfig").read_text() == "libx\n"
    assert f"root\n/bin/sh\n-euc\n{CONFIGURE}\n" in Path("log.chroot").read_text()
    assert "/usr/bin/python3\n" not in Path("log.chroot").read_text()


@pytest.mark.starts_processes
def test_a_python_in_the_root_compiles_this_tool(root):
    put(root, "base-files", "Version: 12\nArchitecture: amd64\n", {"./usr/bin/": None, "./usr/bin/python3": b"x"})
    unpack(root, EXCLUDED, _files(root))
    assert "root\n/usr/bin/python3\n-I\n" in Path("log.chroot").read_text()
    assert not (root / "run/preflight").exists()
    assert not Path("log.unshare").exists()


@pytest.mark.starts_processes
def test_a_package_with_scripts_that_nobody_has_read_is_left_to_dpkg(root):
    put(root, "redis-server", "Version: 7\nArchitecture: amd64\n", {"./redis": b""}, postinst="#!/bin/sh\n")
    put(root, "plain", "Version: 7\nArchitecture: all\n", {"./plain": b""}, postrm="#!/bin/sh\n")
    unpack(root, EXCLUDED, _files(root))
    assert not (root / "redis").exists()
    assert (root / "plain").exists()
    assert "redis" not in (root / "var/lib/dpkg/status").read_text()
    words = Path("log.unshare").read_text().splitlines()
    assert words[-2:] == ["root", "/var/cache/apt/archives/redis-server_1_amd64.deb"]
    assert not (root / "usr/sbin/policy-rc.d").exists()


@pytest.mark.starts_processes
def test_a_package_of_which_only_folders_are_left_does_not_disappear(root):
    """dpkg removes one whose paths are all in a package that it installs: its list has none of its own."""
    put(
        root,
        "libc-l10n",
        "Version: 2\nArchitecture: all\n",
        {"./usr/": None, "./usr/share/doc/": None, "./usr/share/doc/x": b""},
    )
    put(root, "empty", "Version: 2\nArchitecture: all\n", {})
    unpack(root, EXCLUDED, _files(root))
    for name in ("libc-l10n", "empty"):
        assert (root / f"var/lib/dpkg/info/{name}.list").read_text() == "/.\n"


@pytest.mark.starts_processes
@pytest.mark.parametrize("cut", [3, 70, 150, -40])
def test_a_damaged_package_ends_the_build(root, cut):
    put(root, "plain", "Version: 7\nArchitecture: all\n", {"./plain": bytes(100_000)})
    (file,) = (root / "var/cache/apt/archives").iterdir()
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(package_file.ERRORS):
        unpack(root, EXCLUDED, _files(root))


@pytest.mark.starts_processes
def test_a_package_that_tar_cannot_unpack_ends_the_build(root):
    put(root, "plain", "Version: 7\nArchitecture: all\n", {"./plain": b"x", "./plain/below": b"x"})
    with pytest.raises(subprocess.CalledProcessError):
        unpack(root, EXCLUDED, _files(root))


@pytest.mark.starts_processes
def test_base_files_is_before_all_others_whenever_it_comes(root):
    """In Debian 13 it has the links of merged /usr, below which others have files."""
    for name in ("base-files", "b", "c"):
        put(root, name, "Version: 1\nArchitecture: all\n", {"./owner": name.encode(), f"./{name}": b""})

    def come():
        first, *others = sorted(_files(root), key=lambda file: not file.name.startswith("base-files"))
        yield from others
        time.sleep(0.5)
        yield first

    unpack(root, EXCLUDED, come())
    assert (root / "owner").read_text() in ("b", "c")
    assert all((root / name).exists() for name in ("base-files", "b", "c"))
    assert (root / "var/lib/dpkg/status").read_text().startswith("Package: base-files\n")


def _serve(root, script):
    """Plays an `apt-get` that has the packages of `root` in the folder `mirror`."""
    (root / "var/cache/apt/archives").rename("mirror")
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    move = 'cp "mirror/$1_1_amd64.deb" "$archives/partial/" && mv "$archives/partial/$1_1_amd64.deb" "$archives/"'
    text = f"#!/bin/sh\narchives=root/var/cache/apt/archives\nput() {{ {move}; }}\n{script}\n"
    (root.parent / "bin/apt-get").write_text(text)
    (root.parent / "bin/apt-get").chmod(0o755)


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.setenv("MMDEBSTRAP_APT_CONFIG", "/settings")


@pytest.mark.starts_processes
def test_packages_are_unpacked_while_others_are_downloaded(root, settings, capfd):
    for name in ("base-files", "a", "b"):
        put(root, name, "Version: 1\nArchitecture: all\n", {f"./{name}": bytes(1 << 16)})
    wait = "seq 200 | while read _; do [ ! -e root/base-files ] || exit 0; sleep 0.05; done; [ -e root/base-files ]"
    _serve(root, f'put base-files; ({wait}) || exit 9; put a; put b; echo "$APT_CONFIG $*" > asked')
    program.main(["root", *EXCLUDED, "--", "?essential", "a"])
    assert Path("asked").read_text().split()[0] == "/settings"
    assert Path("asked").read_text().endswith("--download-only install ?essential a\n")
    assert all((root / name).exists() for name in ("base-files", "a", "b"))
    assert "step: installing 3 packages\n" in capfd.readouterr().out


@pytest.mark.starts_processes
def test_what_apt_has_not_verified_is_not_unpacked(root, settings, capfd):
    put(root, "base-files", "Version: 1\nArchitecture: all\n", {"./good": b""})
    put(root, "bad", "Version: 1\nArchitecture: all\n", {"./bad": b""})
    _serve(root, 'put base-files; cp mirror/bad_* "$archives/partial/"; sleep 0.5; exit 100')
    with pytest.raises(SystemExit, match=r"^apt-get --yes exited with 100$"):
        program.main(["root", "--", "good"])
    assert not (root / "bad").exists()
    assert not (root / "var/lib/dpkg/status").exists()
    assert "installing" not in capfd.readouterr().out


@pytest.mark.starts_processes
def test_a_package_that_cannot_be_unpacked_ends_the_download(root, settings):
    put(root, "base-files", "Version: 1\nArchitecture: all\n", {"./x": b""})
    (root / "var/cache/apt/archives/bad_1_amd64.deb").write_bytes(b"no package")
    more = " ".join(f"more{number}" for number in range(30))
    for name in more.split():
        put(root, name, "Version: 1\nArchitecture: all\n", {f"./{name}": b""})
    _serve(root, f"put base-files; put bad; for name in {more}; do put $name; sleep 0.1; done; touch all")
    with pytest.raises(SystemExit, match=r"^a package cannot be unpacked: bad_1_amd64\.deb is no package$"):
        program.main(["root", "--", "bad"])
    assert not Path("all").exists()


@pytest.mark.starts_processes
def test_units_that_packages_enable_do_not_start_at_boot(root):
    """Aliases stay, and so does what the distribution itself starts."""
    folder = root / "etc/systemd/system"
    (folder / "multi-user.target.wants").mkdir(parents=True)
    (folder / "multi-user.target.wants/own.service").symlink_to("/lib/systemd/system/own.service")
    put(root, "redis-server", "Version: 7\nArchitecture: amd64\n", {"./redis": b""}, postinst="#!/bin/sh\n")
    install = (
        '[ "$2" = true ] || for at in multi-user.target.wants sockets.target.requires .; do'
        " mkdir -p root/etc/systemd/system/$at; ln -s /x root/etc/systemd/system/$at/redis.service; done"
    )
    (root.parent / "bin/unshare").write_text(f"#!/bin/sh\n{install}\n")
    unpack(root, EXCLUDED, _files(root))
    assert sorted(path.name for path in folder.rglob("*.service")) == ["own.service", "redis.service"]
    assert (folder / "redis.service").is_symlink()


@pytest.mark.parametrize("ending", list(_COMPRESS))
def test_package_files_of_each_compression(tmp_path, ending):
    file, out = tmp_path / "x.deb", io.BytesIO()
    long = "./" + "a" * 150
    data = _archive({"./": None, long: b"x", "./b": b"y" * 5000, "./c": b""})
    file.write_bytes(package(_archive({"./control": b"Package: x\n"}), data, ending))
    assert package_file.control_files(file) == {"control": b"Package: x\n"}
    assert package_file.copy_data(file, out) == ["./", long, "./b", "./c"]
    assert out.getvalue() == data
    file.write_bytes(package(b"", b"", ending).replace(b"data.tar", b"data.zzz"))
    with pytest.raises(ValueError, match=r"has no data\.tar that can be read"):
        package_file.copy_data(file, out)


_members = st.dictionaries(
    st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="/"), min_size=1, max_size=160),
    st.binary(max_size=1500),
    max_size=6,
)


@given(_members, st.lists(st.integers(1, 4000), max_size=20))
def test_names_are_found_however_the_stream_is_cut(members, cuts):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    names, data = package_file._Names(), stream.getvalue()
    for cut in cuts:
        names.feed(data[:cut])
        data = data[cut:]
    names.feed(data)
    assert names.found == list(members)


@given(st.binary(max_size=3000))
def test_whatever_comes_is_names_or_an_error(data):
    names = package_file._Names()
    try:
        names.feed(data)
    except package_file.ERRORS:
        return
    assert all(names.found)


@pytest.mark.parametrize(
    ("package", "known"),
    [("systemd", True), ("python3.13-minimal", True), ("linux-image-6.1.0-44-cloud-amd64", True), ("systemd-timesyncd", False),
     ("python3-pip", False), ("redis-server", False), ("linux-image-cloud-amd64-dbg", False)],
)  # fmt: skip
def test_only_packages_that_have_been_read_are_known(package, known):
    assert is_known(package) is known
