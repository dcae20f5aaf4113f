"""What globs find in a real folder is what the pure matcher says of each path."""

import os
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.globs import matches, parse
from cgroup_preflight.host import globs

FILES = ["a", "b.txt", ".hidden", "d/a", "d/.hidden", "d/e/a.txt", "d/e/f/b", "x[1]", ".git/config", "d/.e/a"]
PARTS = st.sampled_from(["*", "**", "a", "d", "e", "?", "*.txt", ".*", "[ab]*", "[!.]*", "x[[]1]", ".git"])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    top = tmp_path_factory.mktemp("tree")
    for name in FILES:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    return top


def found(top, text):
    return [os.path.relpath(path, top) for path in globs.files(str(top), text)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(PARTS, min_size=1, max_size=4).map("/".join))
def test_files_are_those_that_match(tree, text):
    assert found(tree, text) == sorted(name for name in FILES if matches(parse(text), name))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(PARTS, min_size=1, max_size=4).map("/".join))
@pytest.mark.skipif(sys.version_info < (3, 13), reason="pathlib of older versions has another **")
def test_files_are_those_of_the_newest_pathlib(tree, text):
    assert found(tree, text) == sorted({str(path.relative_to(tree)) for path in tree.glob(text) if not path.is_dir()})


def test_folders_are_apart(tree):
    assert found(tree, "d") == []
    assert globs.folders(str(tree), "d") == (str(tree / "d"),)
    assert globs.folders(str(tree), "*") == (str(tree / ".git"), str(tree / "d"))


def test_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").touch()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "loop").symlink_to("..")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert found(tmp_path, "**") == ["dangling", "real/f"]
    assert found(tmp_path, "link/*") == ["link/f"]
    assert found(tmp_path, "link/**") == ["link/f"]
    assert found(tmp_path, "*/f") == ["link/f", "real/f"]


def test_absolute_and_above(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.deb").touch()
    home = str(tmp_path / "home")
    assert [os.path.normpath(path) for path in globs.files(home, "../out/*.deb")] == [str(tmp_path / "out" / "x.deb")]
    assert globs.files(home, f"{tmp_path}/out/*.deb") == (str(tmp_path / "out" / "x.deb"),)
    assert globs.files(home, "nothing/*") == ()


def test_a_folder_with_signs_in_its_name(tmp_path):
    home = tmp_path / "a*[b]"
    home.mkdir()
    (home / "x").touch()
    assert found(home, "*") == ["x"]


def test_a_tree_deeper_than_the_stack_of_python(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1200):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
    finally:
        os.close(here)
    assert globs.files(str(tmp_path), "**") == ()
