"""A slice with little room left: what it refuses is in the peak of its service, and what a service leaves in it is charged to it."""

from dataclasses import replace

from tests.lab.configs import Lab, config, service
from tests.lab.conftest import KINDS, Boot

_FILLS = r"""#!/usr/bin/python3
import mmap, os, time

name, size = f"/var/tmp/fills-{os.getpid()}", 16 << 20
with open(name, "wb") as file:
    for _ in range(96):
        file.write(bytes(1 << 20))
    os.fsync(file.fileno())
print(open("/sys/kernel/mm/transparent_hugepage/enabled").read(), flush=True)
end = time.monotonic() + 3
while time.monotonic() < end:
    # File cache fills what is left, so that a fault is refused until the kernel has dropped some of it.
    with open(name, "rb") as file:
        while file.read(1 << 20):
            pass
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, size, 4096):
        memory[at] = 1
    memory.close()
os.unlink(name)
print("up", flush=True)
time.sleep(300)
"""
_LEAVES = r"""#!/usr/bin/python3
import time
with open("/dev/shm/leaves", "wb") as file:
    for _ in range(30):
        file.write(bytes(1 << 20))
print("up", flush=True)
time.sleep(300)
"""
_SLICE = 72 << 20


def test_what_a_slice_refuses_fails_no_service_in_it(boot: Boot) -> None:
    """On one CPU, where the tolerance of a peak is smaller than a huge page."""
    lab = Lab(boot(base=replace(KINDS[1].spec, cpus=1)))
    smoke = {"duration": "1s", "start_timeout": "120s", "stop_timeout": "10s"}
    services = {
        "loose": service("fills.py", ready="log:^up", smoke=smoke, slice="full", MemoryMax="200M"),
    }
    made = config(services, {"full": {"MemoryMax": "72M"}})
    outcome = lab.run("smoke", folder=lab.write("full-slice", made, {"fills.py": _FILLS}), timeout=600)
    peaks = {name: outcome.service(name)["memory_peak_bytes"] for name in services}
    assert {name: outcome.statuses(name)["CGP501"] for name in services} == dict.fromkeys(services, "pass"), (
        outcome.text
    )
    assert max(peaks.values()) > _SLICE + (3 << 19), f"the case did not come: {peaks}"


def test_files_in_memory_that_a_service_left_leave_room_enough_to_test_its_limit(boot: Boot) -> None:
    lab = Lab(boot())
    leaves = service("leaves.py", ready="log:^up", smoke={"start_timeout": "60s"}, slice="small", MemoryMax="60M")
    made = config({"leaves": leaves}, {"small": {"MemoryMax": "80M"}})
    outcome = lab.run("smoke", folder=lab.write("leaves", made, {"leaves.py": _LEAVES}))
    left = lab.shell("stat -c %s /dev/shm/leaves; rm /dev/shm/leaves")
    assert int(left) == 30 << 20
    statuses = {item["subject"]: item["status"] for item in outcome.findings("CGP511")}
    assert statuses == {"leaves": "pass", "small.slice": "pass"}, outcome.text
    assert outcome.verdict == "pass"
