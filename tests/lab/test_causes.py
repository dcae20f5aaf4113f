"""Why a service fails, or is near to it: one run of many services in one guest, each beside a twin that does better."""

import pytest

from tests.lab.configs import Lab, Outcome, config, fixture, service

_HOLD = {"duration": "3s", "start_timeout": "60s"}
_SOON = {"start_timeout": "20s"}
#: Listens on the ports of two services, of which only one is its own.
_BOTH = """\
#!/usr/bin/python3
import socket, time
kept = [socket.create_server(("127.0.0.1", port)) for port in (9201, 9202)]
time.sleep(600)
"""
_NEVER = "#!/bin/sh\nexec sleep 600\n"
_OTHER_PORT = """\
#!/usr/bin/python3
import socket, time
server = socket.create_server(("127.0.0.1", 9204))
print("listening on 9204", flush=True)
time.sleep(600)
"""
#: Computes after its start, in bursts (argument: the share of the time).
_WORKER = """\
#!/usr/bin/python3
import sys, time
print("up", flush=True)
share = float(sys.argv[1])
while True:
    end = time.monotonic() + 0.1 * share
    while time.monotonic() < end:
        pass
    time.sleep(0.1 * (1 - share))
"""
#: Takes memory (argument: MiB), and keeps it.
_EATER = """\
#!/usr/bin/python3
import sys, time
kept = b"x" * (int(sys.argv[1]) << 20)
print("up", flush=True)
time.sleep(600)
"""
_CHATTY = """\
#!/usr/bin/python3
import sys, time
for number in range(15000):
    print("line", number)
print("READY", flush=True)
time.sleep(600)
"""
#: 2 GB of output before the ready line.
_FLOOD = """\
#!/usr/bin/python3
import os, time
piece = b"x" * 8191 + b"\\n"
block = piece * 128
for number in range(2 << 10):
    at = 0
    while at < len(block):
        at += os.write(1, block[at:])
os.write(1, b"READY\\n")
time.sleep(600)
"""
_SCRIPTS = {
    "both.py": _BOTH, "never.sh": _NEVER, "port.py": _OTHER_PORT, "worker.py": _WORKER, "eater.py": _EATER,
    "chatty.py": _CHATTY,
}  # fmt: skip
_SERVICES = {
    # Services start in the order of their names, a few at a time: it listens before the next one asks.
    "mute": service("never.sh", ready="tcp://127.0.0.1:9201", smoke=_SOON, MemoryMax="32M"),
    "alien": service("both.py", ready="tcp://127.0.0.1:9202", MemoryMax="48M"),
    "otherport": service("port.py", ready="tcp://127.0.0.1:9203", smoke=_SOON, MemoryMax="48M"),
    "bare": fixture("server", "--port=9205", ready="tcp://127.0.0.1:9205"),
    "covered": fixture("server", "--port=9206", ready="tcp://127.0.0.1:9206", slice="roof"),
    "halfway": fixture("server", "--port=9207", ready="tcp://127.0.0.1:9207", TasksMax=50),
    "full": service("eater.py", "40", ready="log:^up$", MemoryMax="50M"),
    "roomy": service("eater.py", "40", ready="log:^up$", MemoryMax="96M"),
    "busy": service("worker.py", "1", ready="log:^up$", smoke=_HOLD, MemoryMax="48M", CPUQuota="10%"),
    "calm": service("worker.py", "0.01", ready="log:^up$", smoke=_HOLD, MemoryMax="48M", CPUQuota="60%"),
    "allowed": {
        **service("worker.py", "1", ready="log:^up$", smoke=_HOLD, MemoryMax="48M", CPUQuota="9%"),
        "policy": {"throttled_max": "100%"},
    },
    "chatty": service("chatty.py", ready="log:^READY$", smoke={"start_timeout": "60s"}, MemoryMax="48M"),
    # 1500 tasks need far more than 24 MiB.
    "crowded": service("never.sh", MemoryMax="24M", TasksMax=1500),
    "sparse": service("never.sh", MemoryMax="24M", TasksMax=40),
}


@pytest.fixture(scope="module")
def seen(boot, fixtures) -> Outcome:
    """One run of all these services."""
    lab = Lab(boot())
    made = config(_SERVICES, {"roof": {"MemoryMax": "64M"}}, require={"controllers": ["memory"]})
    outcome = lab.run("smoke", folder=lab.write("causes", made, _SCRIPTS), timeout=900)
    print(outcome.text)  # shown where a test fails
    return outcome


def test_a_socket_of_another_service_makes_none_ready(seen: Outcome) -> None:
    found = seen.finding("CGP505", "mute")
    assert found["status"] == "fail"
    assert "another program listens at 127.0.0.1:9201: " in found["message"]
    assert "alien.service" in found["message"]
    assert seen.statuses("alien")["CGP503"] == "pass"


def test_the_port_that_a_service_has_instead_is_named(seen: Outcome) -> None:
    assert "the service listens at 127.0.0.1:9204" in seen.finding("CGP505", "otherport")["message"]


def test_a_service_without_a_limit_fails_and_one_below_a_limited_slice_does_not(seen: Outcome) -> None:
    assert [item["status"] for item in seen.findings("CGP501", "bare")] == ["fail"]
    assert [item["status"] for item in seen.findings("CGP501", "covered")] == ["pass"]
    assert sorted(item["status"] for item in seen.findings("CGP501", "halfway")) == ["pass", "warn"]


def test_little_headroom_is_a_warning_with_a_value_that_has_more(seen: Outcome) -> None:
    found = seen.finding("CGP514", "full")
    assert found["status"] == "warn"
    assert "below 20%" in found["message"]
    assert "raise MemoryMax to " in found["remedies"][0]["title"]
    assert seen.findings("CGP514", "roomy") == []


def test_throttling_after_the_start_is_a_warning(seen: Outcome) -> None:
    found = seen.finding("CGP515", "busy")
    assert found["status"] == "warn"
    assert found["evidence"]["nr_throttled"] > 5
    assert "raise CPUQuota to 15%" in found["remedies"][0]["title"]
    assert seen.findings("CGP515", "calm") == seen.findings("CGP515", "allowed") == []


def test_the_ready_line_of_a_chatty_start_is_found(seen: Outcome) -> None:
    assert seen.statuses("chatty")["CGP503"] == "pass"


def test_a_probe_of_tasks_that_memory_stops_blames_no_host(seen: Outcome) -> None:
    crowded = {item["message"].split(":")[0]: item for item in seen.findings("CGP511", "crowded")}
    assert crowded["MemoryMax"]["status"] == "pass"
    assert crowded["TasksMax"]["status"] == "skip"
    assert "memory was reached first" in crowded["TasksMax"]["message"]
    sparse = {item["message"].split(":")[0]: item["status"] for item in seen.findings("CGP511", "sparse")}
    assert sparse["TasksMax"] == "pass"


def test_the_table_says_the_verdict_about_each_service(seen: Outcome) -> None:
    table = seen.text[seen.text.index("\nservice ") :].split("\n\n")[0]
    rows = {line.split()[0]: line.split()[-1] for line in table.strip().splitlines()}
    assert (rows["mute"], rows["otherport"], rows["bare"]) == ("fail", "fail", "fail")
    assert (rows["alien"], rows["covered"], rows["roomy"]) == ("pass", "pass", "pass")


def test_two_gigabytes_of_output_fit_and_the_ready_line_is_found(boot) -> None:
    """Under the user's own manager, where the output goes to a file: this user reads no journal."""
    lab = Lab(boot())
    lab.guest.start_user_manager("tester")
    flood = service("flood.py", ready="log:^READY$", smoke={"start_timeout": "300s"}, MemoryMax="64M")
    folder = lab.write("flood", config({"flood": flood}), {"flood.py": _FLOOD})
    outcome = lab.run("smoke", "--engine", "user", folder=folder, user="tester", timeout=900)
    lab.shell("loginctl disable-linger tester; systemctl stop user@1000.service user-runtime-dir@1000.service")
    assert outcome.statuses("flood").get("CGP503") == "pass", (outcome.text, outcome.stderr)
    assert outcome.statuses("flood").get("CGP504") is None
