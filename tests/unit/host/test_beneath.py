"""Names that no later link can lead elsewhere."""

import os

import pytest

from cgroup_preflight.host.beneath import MovedError, folder_below, without_links


def test_a_name_stays_in_the_folder_that_was_opened(tmp_path):
    """Whoever may rename the folder puts a link to another one in its place: the name does not follow."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "other").mkdir()
    with without_links(str(tmp_path / "dist" / "a.tar")) as place:
        (tmp_path / "dist").rename(tmp_path / "moved")
        (tmp_path / "dist").symlink_to("other")
        with open(place, "w") as file:
            file.write("x")
    assert os.listdir(tmp_path / "moved") == ["a.tar"]
    assert os.listdir(tmp_path / "other") == []


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_link_at_any_depth_is_refused(tmp_path, depth):
    parts = ["a", "b", "c"]
    real = tmp_path.joinpath(*parts)
    real.mkdir(parents=True)
    with without_links(str(real / "x")) as place:
        assert os.path.samefile(os.path.dirname(place), real)
    where = tmp_path.joinpath(*parts[: depth + 1])
    where.rename(tmp_path / "elsewhere")
    where.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MovedError, match="a folder on the way is a link"), without_links(str(real / "x")):
        pass


def test_folders_that_are_missing_are_made_with_their_mode(tmp_path):
    before = os.umask(0o077)
    try:
        with folder_below(str(tmp_path), "usr/lib/x", mode=0o755) as place:
            (tmp_path / "usr/lib/x/mark").write_text("")
            assert os.listdir(place) == ["mark"]
    finally:
        os.umask(before)
    assert (tmp_path / "usr/lib").stat().st_mode & 0o7777 == 0o755


def test_a_link_where_a_folder_is_to_be_made_is_refused(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "tree/usr").symlink_to("../out")
    with pytest.raises(MovedError), folder_below(str(tmp_path / "tree"), "usr/lib", mode=0o755):
        pass
    assert os.listdir(tmp_path / "out") == []
    with pytest.raises(MovedError, match="leads out"), folder_below(str(tmp_path / "tree"), "../out"):
        pass


def test_no_descriptor_stays_open(tmp_path):
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(OSError, match="gone"), without_links(str(tmp_path / "gone/x")):
            pass
        with without_links(str(tmp_path / "x")):
            pass
    assert len(os.listdir("/proc/self/fd")) == len(before)
