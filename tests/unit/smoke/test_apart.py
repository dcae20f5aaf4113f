"""A process for each of several machines: what it prints comes back, and an end lets it take down its run."""

import threading
import time

import pytest

from cgroup_preflight.smoke.apart import Apart

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(60)]


def test_what_the_command_prints_and_says(tmp_path):
    out, err = Apart({}).run(("--version",))
    assert out.startswith(b"cgroup-preflight ")
    assert err == b""
    out, err = Apart({}).run(("smoke", "--config", f"{tmp_path}/none.toml"))
    assert out == b""
    assert b"none.toml" in err


def test_all_end_when_one_of_the_callers_does():
    apart, ended = Apart({}), []
    thread = threading.Thread(target=lambda: ended.append(apart.run(("exporter", "--listen", "127.0.0.1:0"))))
    thread.start()
    time.sleep(0.2)
    apart.end()
    thread.join(30)
    assert ended


def test_none_begins_after_the_end(tmp_path):
    apart = Apart({})
    apart.end()
    assert apart.run(("snapshot", "-o", f"{tmp_path}/recorded")) == (b"", b"")
    assert not (tmp_path / "recorded").exists()
