"""Whether a program file is still the one that it was."""

import os

import pytest

from cgroup_preflight.config.binaries import identities
from tests.unit.core.making import config_of

TEXT = '[services.web]\nbinary = "web"\n[services.gone]\nbinary = "gone"\n'


def _write(path):
    path.write_bytes(b"two")


def _replace(path):
    other = path.with_name("other")
    other.write_bytes(b"one")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


def _same_times(path):
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(b"two")
    os.utime(path, ns=times)


def _read(path):
    path.read_bytes()


@pytest.mark.parametrize(
    ("act", "same"), [(_write, False), (_replace, False), (_same_times, False), (os.unlink, False), (_read, True)]
)
def test_one_that_is_written_to_or_replaced_is_another(tmp_path, act, same):
    path = tmp_path / "web"
    path.write_bytes(b"one")
    # The clock of a file system has steps of some milliseconds.
    os.utime(path, ns=(1, 1))
    config = config_of(TEXT, folder=str(tmp_path))
    before = identities(config)
    assert list(before) == ["web"]
    assert identities(config) == before
    _wait_for_another_time(tmp_path, path)
    act(path)
    assert (identities(config).get("web") == before["web"]) is same


def _wait_for_another_time(folder, path):
    probe = folder / "probe"
    for _ in range(100_000):
        probe.touch()
        if probe.stat().st_ctime_ns != path.stat().st_ctime_ns:
            return
    raise AssertionError("the clock of this file system stands still")
