"""The image cache: found, rebuilt, verified, removed. The build itself is the lab's matter."""

import json
import os
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest import image, overlay, tools
from cgroup_preflight.guest.overlay import OverlayFile
from cgroup_preflight.guest.recipe import recipe_for

RECIPE = recipe_for("debian-12")


@pytest.fixture
def built(tmp_path):
    """A cache with one finished image in it."""
    home = tmp_path / RECIPE.name
    home.mkdir()
    root = home / "root.ext4"
    root.write_bytes(b"root")
    record = {"size": 4, "mtime_ns": root.stat().st_mtime_ns, "sha256": image._sha256(root)}
    (home / "manifest.json").write_text(json.dumps({"root.ext4": record}))
    return tmp_path


@pytest.fixture
def no_tools(monkeypatch):
    """A host without any of the programs: a build would end in an error that names them."""
    monkeypatch.setattr(tools, "_SEARCH_PATH", "/nowhere")


def test_finished_image_is_used_without_a_build(built, no_tools):
    found = image.ensure(RECIPE, built)
    assert found.root == built / RECIPE.name / "root.ext4"
    assert found.kernel is None
    image.verify(found)
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
    with pytest.raises(HostError, match=r"needs linux\.uml, not installed here"):
        image.ensure(RECIPE, built, programs=("linux.uml",))


def test_full_check_sees_what_size_and_time_hide(built):
    found = image.ensure(RECIPE, built)
    status = found.root.stat()
    found.root.write_bytes(b"toor")
    os.utime(found.root, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert image.ensure(RECIPE, built) == found
    with pytest.raises(HostError, match="differs from what was built"):
        image.verify(found)


def test_removal(built):
    assert image.remove(RECIPE.name, built) is True
    assert image.remove(RECIPE.name, built) is False
    assert image.list_images(built) == ()


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
    source = tmp_path / "source"
    (source / "__pycache__").mkdir(parents=True)
    (source / "__pycache__" / "x.pyc").write_bytes(b"x")
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    contents = []
    for stamp in (1, 2):
        os.utime(source / "run", (stamp, stamp))
        overlay.write_input({"in": source}, tmp_path / "input.tar")
        overlay.write_overlay((OverlayFile(path="/etc/x", content="y"),), tmp_path / "overlay.tar")
        contents.append([(tmp_path / name).read_bytes() for name in ("input.tar", "overlay.tar")])
    assert contents[0] == contents[1]
    assert b"pycache" not in contents[0][0]
