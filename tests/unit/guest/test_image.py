"""The image cache: found, rebuilt, verified, removed. The build itself is the lab's matter."""

import json
import os
from fnmatch import fnmatch
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest import image, overlay, store, tools, uml_kernel
from cgroup_preflight.guest.overlay import OverlayFile
from cgroup_preflight.guest.recipe import Recipe, recipe_for

RECIPE = recipe_for("debian-12")


def put_image(folder: Path, recipe: Recipe) -> image.RootImage:
    """A finished image of `recipe` in the cache `folder`."""
    home = folder / recipe.name
    home.mkdir(parents=True)
    root = home / "root.ext4"
    root.write_bytes(b"root")
    record = {"size": 4, "mtime_ns": root.stat().st_mtime_ns, "sha256": store._sha256(root)}
    (home / "manifest.json").write_text(json.dumps({"root.ext4": record}))
    return image.RootImage(name=recipe.name, root=root, kernel=None)


@pytest.fixture
def built(tmp_path):
    """A cache with one finished image in it."""
    put_image(tmp_path, RECIPE)
    return tmp_path


@pytest.fixture
def no_tools(monkeypatch):
    """A host without any of the programs: a build would end in an error that names them."""
    monkeypatch.setattr(tools, "_SEARCH_PATH", "/nowhere")


def test_finished_image_is_used_without_a_build(built, no_tools):
    found = image.ensure(RECIPE, built)
    assert found.root == built / RECIPE.name / "root.ext4"
    assert found.kernel is None
    assert image.list_images(built) == (found,)


def test_changed_image_is_built_anew(built, no_tools):
    (built / RECIPE.name / "root.ext4").write_bytes(b"longer root")
    with pytest.raises(HostError, match="apt-get install mmdebstrap e2fsprogs") as caught:
        image.ensure(RECIPE, built)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy.commands[0][:2] == ("apt-get", "install")


def test_all_that_is_missing_is_named_at_once_and_nothing_is_written(tmp_path, no_tools):
    cache = tmp_path / "cache"
    with pytest.raises(HostError, match="apt-get install user-mode-linux mmdebstrap e2fsprogs") as caught:
        image.ensure(RECIPE, cache, programs=("linux.uml",))
    assert "\n" not in str(caught.value)
    assert not cache.exists()


def test_with_the_image_there_only_what_runs_it_is_asked_for(built, no_tools):
    with pytest.raises(HostError, match=r"needs linux\.uml, which this host does not have"):
        image.ensure(RECIPE, built, programs=("linux.uml",))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CACHE_HOME": "/c"}, Path("/c/cgroup-preflight/images")),
        ({"XDG_CACHE_HOME": "c"}, Path.home() / ".cache/cgroup-preflight/images"),
        ({}, Path.home() / ".cache/cgroup-preflight/images"),
    ],
)
def test_cache_folder(environment, expected):
    assert image.cache_folder(environment) == expected


def test_archives_are_the_same_each_time(tmp_path):
    contents = []
    for _ in range(2):
        overlay.write_overlay((OverlayFile(path="/etc/x", content="y"),), tmp_path / "overlay.tar")
        contents.append((tmp_path / "overlay.tar").read_bytes())
    assert contents[0] == contents[1]


#: Programs that a build starts, played by scripts; each makes what the real one would, in the current folder.
_PLAYED = {
    # It has seccomp, so that no other one is downloaded.
    "linux.uml": "echo 6.16.1",
    "unshare": 'while case $1 in --propagation) shift 2;; --*) shift;; *) false;; esac; do :; done; exec "$@"',
    "mount": "exit 1",
    "mmdebstrap": 'for out; do :; done; echo built >> "$LOG"; for name in boot etc var/lib/apt/lists var/lib/dpkg/info bin sbin lib lib64 usr/bin usr/sbin usr/lib usr/lib64; do mkdir -p "$out/$name"; done; touch "$out/var/lib/dpkg/status"; echo "Date: ${DAY:-Fri, 30 Oct 2026 08:08:01 UTC}" > "$out/var/lib/apt/lists/x_InRelease"; case $* in *linux-image*) : > "$out/boot/vmlinuz-6.1";; esac; echo said; echo "step: installing 0 packages"; exit "${STATUS:-0}"',
    "chroot": 'mkdir -p "$1/tmp"; cd "$1"; touch usr/bin/sh',
    "tar": "exit 0",
    "debugfs": "exit 0",
    "mke2fs": "[ -e root/etc/.updated ] && echo file system > ../root.ext4",
}


@pytest.fixture
def builder(tmp_path, monkeypatch):
    """A host that has the programs of a build; the file with one line for each build."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in _PLAYED.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(tools, "_SEARCH_PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(image, "PROGRAMS", tuple(_PLAYED))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    if os.geteuid() != 0:
        (folder / "newuidmap").touch(mode=0o755)
    return tmp_path / "log"


@pytest.mark.starts_processes
@pytest.mark.parametrize("with_kernel", [False, True])
def test_an_image_is_built_once(tmp_path, builder, with_kernel):
    cache, said = tmp_path / "cache", []
    recipe = recipe_for("debian-13", with_kernel=with_kernel)
    made = image.ensure(recipe, cache, said.append)
    assert made.root.read_text() == "file system\n"
    assert made.root.parent == cache / recipe.name
    assert made.kernel == (cache / recipe.name / "vmlinuz" if with_kernel else None)
    assert said == [
        f"building the debian-13 guest in {cache / recipe.name} (once, about a minute)",
        "downloading the packages", "installing 0 packages", "built, 0 MB",
    ]  # fmt: skip
    assert image.ensure(recipe, cache, pytest.fail) == made
    assert builder.read_text() == "built\n"
    assert sorted(path.name for path in cache.iterdir()) == [f".{recipe.name}.lock", recipe.name]


@pytest.mark.starts_processes
def test_a_changed_image_is_built_again_and_one_with_another_time_is_not(tmp_path, builder):
    cache = tmp_path / "cache"
    made = image.ensure(RECIPE, cache)
    os.utime(made.root, (1, 1))
    assert image.ensure(RECIPE, cache, pytest.fail) == made
    made.root.write_text("another text\n")
    assert image.ensure(RECIPE, cache).root.read_text() == "file system\n"
    assert builder.read_text() == "built\n" * 2


@pytest.mark.starts_processes
def test_an_image_of_a_moving_suite_is_named_by_its_versions_and_made_anew_when_somebody_wants_that(
    tmp_path, builder, monkeypatch
):
    cache, recipe = tmp_path / "cache", recipe_for("debian-14")
    assert recipe.moving
    assert not RECIPE.moving
    made = image.ensure(recipe, cache)
    assert made.contents is not None
    assert made.name == f"{recipe.name}-{made.contents.stamp}"
    assert (made.recipe_name, made.distro) == (recipe.name, "debian-14")
    assert made.contents.day == "2026-10-30"
    monkeypatch.setenv("DAY", "Sat, 31 Oct 2026 08:08:01 UTC")
    # The archive has changed: nobody wants the newer packages.
    assert image.ensure(recipe, cache, pytest.fail) == made
    (tmp_path / "bytecode" / f"{made.name}+0123").mkdir(parents=True)
    again = image.ensure(recipe, cache, anew=True)
    assert again.name != made.name
    # The modules that were compiled for an image go with it.
    assert list((tmp_path / "bytecode").iterdir()) == []
    assert image.list_images(cache) == (again,)
    assert image.ensure(recipe, cache, pytest.fail) == again
    assert image.remove(again.name, cache)
    assert image.list_images(cache) == ()
    # Whoever wants the newest image wants the newest user-mode-linux, which cannot be had here.
    locks = [f".{recipe.name}.lock", f".{uml_kernel.name_in(cache)}.lock"]
    assert sorted(path.name for path in cache.iterdir()) == locks


def test_the_latest_day_of_a_moving_suite_is_used(tmp_path, no_tools):
    recipe = recipe_for("debian-14")
    for name in ("20261031-00000000", "20261030-ffffffff", "20261029-11111111"):
        made = put_image(tmp_path, recipe)
        made.root.parent.rename(tmp_path / f"{recipe.name}-{name}")
    assert image.ensure(recipe, tmp_path).name == f"{recipe.name}-20261031-00000000"


@pytest.mark.starts_processes
def test_a_build_that_fails_leaves_nothing(tmp_path, builder, monkeypatch):
    monkeypatch.setenv("STATUS", "7")
    with pytest.raises(HostError, match=r"building the debian-12 guest: .* exited with 7\n  \| said"):
        image.ensure(RECIPE, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f".{RECIPE.name}.lock"]


def test_the_checksum_is_of_the_content_whether_zeros_are_a_hole_or_written(tmp_path):
    sparse, full, other = (tmp_path / name for name in ("sparse", "full", "other"))
    size = 5 << 20
    data = {0: b"start", 70_000: b"a", (3 << 20) - 1: b"bc", size - 1: b"z"}
    for path, zeros in ((sparse, False), (full, True), (other, False)):
        with path.open("wb") as file:
            file.truncate(size)
            if zeros:
                file.write(bytes(size))
            for place, text in data.items():
                file.seek(place)
                file.write(text)
    assert store._sha256(sparse) == store._sha256(full)
    for place, text in ((70_000, b"b"), (70_001, b"a"), (size - 1, b"y"), (2 << 20, b"x")):
        with other.open("r+b") as file:
            file.seek(place)
            file.write(text)
        assert store._sha256(other) != store._sha256(sparse), place
        with other.open("r+b") as file:
            file.seek(place)
            file.write(bytes(1))
            for again, before in data.items():
                file.seek(again)
                file.write(before)
        assert store._sha256(other) == store._sha256(sparse)
    os.truncate(other, size + 1)
    assert store._sha256(other) != store._sha256(sparse)


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"root.ext4": 1}', '{"root.ext4": {"size": 4}}', "{}"])
def test_a_manifest_that_says_nothing_is_no_image(built, no_tools, manifest):
    (built / RECIPE.name / "manifest.json").write_text(manifest)
    with pytest.raises(HostError, match="the guest needs"):
        image.ensure(RECIPE, built)


def test_a_cache_that_cannot_be_written(tmp_path, no_tools):
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot write to the cache of images") as caught:
        image.remove("x", tmp_path / "file")
    assert "XDG_CACHE_HOME" in caught.value.remedy.title


#: What mmdebstrap and apt print (apt 2.6 and 3.0), around what they say of a cause.
_NOISE = "I: running --extract-hook in shell\nE: setup failed: E: hook failed\n"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("E: Unable to locate package redis-servr\nE: Unable to locate package nginks\n", "debian-12 has no package redis-servr, nginks"),
        ("E: Package 'mail-transport-agent' has no installation candidate\n", "debian-12 has no package mail-transport-agent"),
        ("E: Unable to locate package libx++1.0\nE: Couldn't find any package by glob 'libx++1.0'\n", "debian-12 has no package libx++1.0"),
        (
            "E: Failed to fetch http://deb.debian.org/d/InRelease  Temporary failure resolving 'deb.debian.org'\n" * 2,
            "cannot download the packages of the debian-12 guest (nginx): deb.debian.org cannot be reached",
        ),
        ("W: Could not connect to 10.0.0.1:3128 (10.0.0.1). - connect (111)\nE: Unable to connect to 10.0.0.1:3128:\n", "cannot download the packages of the debian-12 guest (nginx): 10.0.0.1:3128 cannot be reached"),
        (
            "E: Release file for http://deb.debian.org/debian/dists/forky/InRelease is expired (invalid since 23d 9h 26min 3s). Updates for this repository will not be applied.\n",
            "the package lists of bookworm have been out of date for 23d, and apt does not accept them: http://deb.debian.org/debian/dists/forky/InRelease",
        ),
        ("E: No space left on device\n", ""),
    ],
)  # fmt: skip
def test_the_cause_of_a_failed_build_is_one_line(said, message):
    cause = image._cause(tools.ToolError("building", said + _NOISE), recipe_for("debian-12", packages=("nginx",)))
    assert (cause.message if cause else "") == message


@pytest.mark.starts_processes
def test_packages_make_an_image_of_their_own(tmp_path, builder):
    said = []
    recipe = recipe_for("debian-12", packages=("nginx", "memcached"))
    assert recipe.name == recipe_for("debian-12", packages=("memcached", "nginx", "nginx")).name != RECIPE.name
    made = image.ensure(recipe, tmp_path / "cache", said.append)
    assert made.packages == ("memcached", "nginx")
    assert said[0].startswith("building the debian-12 guest with memcached, nginx in ")
    assert image.list_images(tmp_path / "cache")[0].packages == made.packages


@pytest.mark.starts_processes
def test_a_name_that_is_no_package_is_told_by_the_build(tmp_path, builder):
    script = builder.parent / "bin" / "mmdebstrap"
    script.write_text("#!/bin/sh\necho 'E: Unable to locate package nginks' >&2\nexit 1\n")
    with pytest.raises(image.UnknownPackagesError) as caught:
        image.ensure(recipe_for("debian-12", packages=("nginks",)), tmp_path / "cache")
    assert caught.value.names == ("nginks",)
    assert not list((tmp_path / "cache").glob("[!.]*"))


@pytest.mark.parametrize("folder", ["/lib", "/usr/lib"])
def test_no_image_has_the_names_of_devices(folder: str):
    excluded = recipe_for("debian-12").excluded_paths
    assert any(fnmatch(f"{folder}/udev/hwdb.d/20-OUI.hwdb", pattern) for pattern in excluded)
    assert not any(fnmatch(f"{folder}/udev/rules.d/50-udev-default.rules", pattern) for pattern in excluded)


def test_only_an_image_with_a_kernel_leaves_out_modules_and_none_that_a_guest_needs():
    modules = set(recipe_for("debian-12", with_kernel=True).excluded_paths) - set(
        recipe_for("debian-12").excluded_paths
    )
    where = "/usr/lib/modules/6.12/kernel"
    left_out = ("drivers/net/ethernet/intel/e1000/e1000.ko", "drivers/infiniband/core/ib_core.ko.xz")
    kept = ("drivers/net/virtio_net.ko", "drivers/block/virtio_blk.ko", "fs/xfs/xfs.ko", "net/sctp/sctp.ko")
    assert all(any(fnmatch(f"{where}/{name}", pattern) for pattern in modules) for name in left_out)
    assert not any(fnmatch(f"{where}/{name}", pattern) for pattern in modules for name in kept)
