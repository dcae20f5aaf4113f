"""What a run relies on, in folders of the test's own: another file in a place, and a nearer one, are both seen."""

import os

import pytest

from cgroup_preflight.packages.relied_on import relied_on, replaced


def put(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def look(tmp_path, monkeypatch):
    """The programs, files and folders of a small system, with a PATH of two folders."""
    monkeypatch.setenv("PATH", f"{tmp_path}/local:{tmp_path}/bin")
    put(tmp_path / "bin/systemctl")
    put(tmp_path / "tool/a.py")
    return lambda: relied_on(("systemctl",), (str(tmp_path / "preload"),), (str(tmp_path / "tool"),))


def test_nothing_changed(look):
    assert replaced(look(), look()) == ()


@pytest.mark.parametrize(
    ("path", "found"),
    [("bin/systemctl", "systemctl"), ("local/systemctl", "systemctl"), ("preload", "preload"), ("tool/a.py", "tool/a.py"),
     ("tool/sub/json.py", "tool/sub/json.py")],
)  # fmt: skip
def test_another_file_in_its_place_is_seen(tmp_path, look, path, found):
    before = look()
    put(tmp_path / path, "another")
    (changed,) = replaced(before, look())
    assert changed.endswith(found)


def test_the_same_size_and_time_do_not_hide_another_file(tmp_path, look):
    before = look()
    status = os.stat(tmp_path / "tool/a.py")
    put(tmp_path / "new", "y")
    os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.rename(tmp_path / "new", tmp_path / "tool/a.py")
    assert len(replaced(before, look())) == 1


def test_compiled_files_and_packages_of_others_do_not_count(tmp_path, look):
    before = look()
    put(tmp_path / "tool/__pycache__/a.pyc")
    put(tmp_path / "tool/dist-packages/b.py")
    assert replaced(before, look()) == ()
