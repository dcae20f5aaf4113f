"""Page tables that a fork copies: a real process, whose mapped files must stay as they are."""

import os
import subprocess
import sys

import pytest

from cgroup_preflight.guest.inside import page_tables

_RUN = """
import os
from cgroup_preflight.guest.inside import page_tables

def written():
    with open("/proc/self/smaps") as file:
        lines = [line.split() for line in file]
    code = False
    for words in lines:
        if "-" in words[0]:
            code = words[1] == "r-xp" and words[-1].startswith("/")
        if code and words[0] == "Anonymous:" and words[1] != "0":
            yield words

before = len(list(written()))
page_tables.copy_at_fork(os.getpid())
print(before, len(list(written())), flush=True)
if not os.fork():
    import json
    os.write(1, json.dumps({"child": [1.5]}).encode())
    os._exit(0)
os.wait()
"""

pytestmark = pytest.mark.starts_processes


def test_each_file_has_a_page_of_its_own_then_and_is_what_it_was():
    done = subprocess.run([sys.executable, "-c", _RUN], capture_output=True, text=True, timeout=60, check=True)
    first, child = done.stdout.splitlines()
    before, after = map(int, first.split())
    assert after > before
    assert child == '{"child": [1.5]}'


def test_a_process_that_has_ended_is_left_alone():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(timeout=60)
    page_tables.copy_at_fork(gone.pid)


def test_what_cannot_be_written_is_left_alone(tmp_path):
    handle = os.open(tmp_path / "memory", os.O_RDONLY | os.O_CREAT)
    try:
        page_tables._rewrite(handle, 1 << 40)
    finally:
        os.close(handle)


def test_a_process_has_all_its_pages_if_it_may_lock_them():
    """Root may; for anybody else nothing changes."""
    program = """
from cgroup_preflight.guest.inside import page_tables
page_tables.have_all_pages()
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmLck:")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (int(done.stdout) > 0) is (os.geteuid() == 0)


@pytest.mark.parametrize(
    ("text", "slow"), [("processor\t: 0\nvendor_id\t: User Mode Linux\n", True), ("vendor_id : GenuineIntel\n", False)]
)
def test_user_mode_linux_says_so(tmp_path, monkeypatch, text, slow):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(page_tables, "_CPUS", str(tmp_path / "cpuinfo"))
    assert page_tables.faults_are_slow() is slow
