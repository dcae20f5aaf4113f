"""Why a service fails, or is near to it: one run of many services in one guest, each beside a twin that does better."""

import re

import pytest

from tests.lab.configs import Lab, Outcome, config, fixture, service

_HOLD = {"duration": "3s", "start_timeout": "60s"}
_SOON = {"start_timeout": "8s"}
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
#: Listens on the unix sockets of two services, of which only one is its own.
_BOTH_UNIX = """\
#!/usr/bin/python3
import socket, time
kept = [socket.socket(socket.AF_UNIX) for path in ("/run/lab-own.sock", "/run/lab-other.sock")]
for line, path in zip(kept, ("/run/lab-own.sock", "/run/lab-other.sock")):
    line.bind(path)
    line.listen()
time.sleep(600)
"""
#: Lets systemd listen in its place.
_ACTIVATED = """\
#!/bin/sh
systemd-run --quiet --unit=lab-late --socket-property=ListenStream=127.0.0.1:9209 sleep 600
exec sleep 600
"""
#: Memory of three kinds: 20 MiB anonymous, 30 MiB of a file, and kernel memory for 20,000 directory entries.
_KINDS = """\
#!/usr/bin/python3
import os, tempfile, time
kept = b"x" * (20 << 20)
folder = tempfile.mkdtemp(dir="/var/tmp")
with open(f"{folder}/data", "wb") as file:
    for _ in range(30):
        file.write(bytes(1 << 20))
for number in range(20000):
    try:
        os.stat(f"{folder}/{number}")
    except FileNotFoundError:
        pass
print("up", flush=True)
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
#: Output before the ready line (arguments: MiB, the line, and MiB after it).
_FLOOD = """\
#!/usr/bin/python3
import os, sys, time
piece = b"x" * 8191 + b"\\n"
block = piece * 128
def flood(size):
    for number in range(int(size)):
        at = 0
        while at < len(block):
            at += os.write(1, block[at:])
flood(sys.argv[1])
os.write(1, sys.argv[2].encode() + b"\\n")
flood(sys.argv[3])
time.sleep(600)
"""
_SCRIPTS = {
    "both.py": _BOTH, "never.sh": _NEVER, "port.py": _OTHER_PORT, "worker.py": _WORKER, "eater.py": _EATER,
    "chatty.py": _CHATTY, "bothunix.py": _BOTH_UNIX, "activated.sh": _ACTIVATED, "kinds.py": _KINDS,
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
    "busy": service("worker.py", "1", ready="log:^up$", smoke=_HOLD, MemoryMax="48M", CPUQuota="6%"),
    "calm": service("worker.py", "0.01", ready="log:^up$", smoke=_HOLD, MemoryMax="48M", CPUQuota="60%"),
    "allowed": {
        **service("worker.py", "1", ready="log:^up$", smoke=_HOLD, MemoryMax="48M", CPUQuota="9%"),
        "policy": {"throttled_max": "100%"},
    },
    # Too little memory, and too little CPU time to start in time; the twins have the values that are proposed.
    "starved": service("eater.py", "60", ready="log:^up$", MemoryMax="50M"),
    "slow": service(
        "worker.py", "1", ready="log:^never$", smoke={"start_timeout": "12s"}, MemoryMax="48M", CPUQuota="5%"
    ),
    "chatty": service("chatty.py", ready="log:^READY$", smoke={"start_timeout": "60s"}, MemoryMax="48M"),
    "unixalien": service("bothunix.py", ready="unix:/run/lab-own.sock", MemoryMax="48M"),
    "unixmute": service("never.sh", ready="unix:/run/lab-other.sock", smoke=_SOON, MemoryMax="32M"),
    "activated": service("activated.sh", ready="tcp://127.0.0.1:9209", smoke=_SOON, MemoryMax="32M"),
    "early": service("never.sh", ready="tcp://127.0.0.1:9208", smoke=_SOON, MemoryMax="32M"),
    "kinds": service("kinds.py", ready="log:^up$", MemoryMax="128M"),
    # 1500 tasks need far more than 24 MiB.
    "crowded": service("never.sh", MemoryMax="24M", TasksMax=3000),
    "sparse": service("never.sh", MemoryMax="24M", TasksMax=40),
}


@pytest.fixture(scope="module")
def seen(boot, fixtures) -> Outcome:
    """One run of all these services."""
    lab = Lab(boot())
    made = config(_SERVICES, {"roof": {"MemoryMax": "64M"}}, require={"controllers": ["memory"]})
    lab.shell("systemd-run --quiet --unit=lab-early --socket-property=ListenStream=127.0.0.1:9208 sleep 600")
    outcome = lab.run("smoke", folder=lab.write("causes", made, _SCRIPTS), timeout=900)
    lab.shell("systemctl stop lab-early.socket lab-late.socket lab-late.service; rm /run/lab-*.sock /var/tmp/tmp* -r")
    print(outcome.text)  # shown where a test fails
    return outcome


def test_a_socket_of_another_service_makes_none_ready(seen: Outcome) -> None:
    found = seen.finding("CGP505", "mute")
    assert found["status"] == "fail"
    assert "another program listens at 127.0.0.1:9201: " in found["message"]
    assert "alien.service" in found["message"]
    assert seen.statuses("alien")["CGP503"] == "pass"


def test_a_unix_socket_of_another_service_makes_none_ready(seen: Outcome) -> None:
    found = seen.finding("CGP505", "unixmute")
    assert found["status"] == "fail"
    assert "another program listens at /run/lab-other.sock: " in found["message"]
    assert "unixalien.service" in found["message"]
    assert seen.statuses("unixalien")["CGP503"] == "pass"


def test_systemd_that_listens_for_a_socket_unit_is_named_as_that(seen: Outcome) -> None:
    """Before the start, and where the service itself made it listen."""
    found = seen.finding("CGP505", "activated")
    assert found["status"] == "fail"
    assert "another program listens at 127.0.0.1:9209: systemd (PID 1), for a socket unit" in found["message"]
    early = seen.finding("CGP507", "early")
    assert early["status"] == "unverified"
    assert early["message"].startswith("systemd (PID 1), for a socket unit already answers at 127.0.0.1:9208, so ")


def test_the_table_tells_anonymous_file_and_kernel_memory_apart(seen: Outcome) -> None:
    evidence = seen.finding("CGP509", "kinds")["evidence"]
    assert 20 << 20 <= evidence["anon memory"] < 35 << 20
    assert 30 << 20 <= evidence["file memory"] < 50 << 20
    assert evidence["kernel memory"] > 1 << 20
    table = seen.text[seen.text.index("\nmemory ") :].split("\n\n")[0].strip().splitlines()
    assert table[0].split() == ["memory", "anonymous", "file", "kernel"]
    (row,) = [line.split() for line in table if line.split()[0] == "kinds"]
    assert [cell[-1] for cell in row[1:]] == ["M", "M", "M"], row
    # The eater has no file of its own.
    full = seen.finding("CGP509", "full")["evidence"]
    assert full["anon memory"] > 40 << 20 > full["file memory"]


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


def test_a_memory_kill_names_the_peak_and_its_remedy_leaves_headroom(seen: Outcome, boot) -> None:
    found = seen.finding("CGP504", "starved")
    assert found["status"] == "fail"
    assert "(limit 50M at " in found["message"]
    assert "peak 5" in found["message"]
    proposed = re.search(r"raise MemoryMax to (\w+)", found["remedies"][0]["title"])
    assert proposed is not None
    again = config({"fed": service("eater.py", "60", ready="log:^up$", MemoryMax=proposed[1])})
    lab = Lab(boot())
    outcome = lab.run("smoke", folder=lab.write("fed", again, _SCRIPTS))
    assert outcome.verdict == "pass", outcome.text
    assert outcome.findings("CGP514", "fed") == []


def test_a_quota_that_is_too_small_to_start_is_named_and_the_log_is_there(seen: Outcome) -> None:
    found = seen.finding("CGP505", "slow")
    assert "of periods: CPUQuota=5% may be too low)" in found["message"]
    assert "raise CPUQuota, or read its log below" in found["remedies"][0]["title"]
    assert seen.service("slow")["log_tail"] == ["up"]
    # A service that was not throttled gets no such words.
    assert "CPUQuota" not in seen.finding("CGP505", "otherport")["message"]


def test_throttling_after_the_start_is_a_warning(seen: Outcome) -> None:
    found = seen.finding("CGP515", "busy")
    assert found["status"] == "warn"
    assert found["evidence"]["nr_throttled"] > 5
    assert "raise CPUQuota to 10%" in found["remedies"][0]["title"]
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


def test_limits_that_a_config_asks_for_and_the_headroom_of_a_slice(boot, fixtures) -> None:
    """`[require] limits`: each service needs them, itself or by a slice; without it, one of them is enough."""
    lab = Lab(boot())
    services = {
        "both": fixture("server", "--port=9221", ready="tcp://127.0.0.1:9221", MemoryMax="64M", CPUQuota="50%"),
        "memory": fixture("server", "--port=9222", ready="tcp://127.0.0.1:9222", MemoryMax="64M"),
        "shared": fixture("server", "--port=9223", ready="tcp://127.0.0.1:9223", MemoryMax="64M", slice="quota"),
        "full": service("eater.py", "40", ready="log:^up$", slice="tight", MemoryMax="200M", CPUQuota="80%"),
        "roomy": service("eater.py", "40", ready="log:^up$", slice="wide", MemoryMax="200M", CPUQuota="80%"),
    }
    slices = {"quota": {"CPUQuota": "90%"}, "tight": {"MemoryMax": "52M"}, "wide": {"MemoryMax": "128M"}}
    made = config(services, slices, require={"limits": ["MemoryMax", "CPUQuota"]})
    outcome = lab.run("smoke", folder=lab.write("required", made, _SCRIPTS))
    failed = {item["subject"] for item in outcome.report["findings"] if item["status"] == "fail"}
    assert failed == {"memory"}, outcome.text
    (lacks,) = [item for item in outcome.findings("CGP501", "memory") if item["status"] == "fail"]
    assert "CPUQuota" in lacks["message"]
    near = [item for item in outcome.findings("CGP514") if item["status"] == "warn"]
    assert [item["subject"] for item in near] == ["tight.slice"], near


def test_a_config_without_limits_is_no_pass(boot, fixtures) -> None:
    """And its twin with one is."""
    lab = Lab(boot())
    server = fixture("server", "--port=9231", ready="tcp://127.0.0.1:9231")
    outcome = lab.run("smoke", folder=lab.write("bare", config({"web": server})))
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1), outcome.text
    assert "no limit is set for this service" in outcome.finding("CGP501", "web")["message"]
    limited = lab.run("smoke", folder=lab.write("limited", config({"web": {**server, "MemoryMax": "64M"}})))
    assert (limited.verdict, limited.exit_status) == ("pass", 0), limited.text
    assert "of 1 service" in limited.text.splitlines()[0], limited.text


@pytest.mark.parametrize("size", [256, pytest.param(2048, marks=pytest.mark.measured)])
def test_more_output_than_the_disk_has_room_for_fits_and_the_ready_line_is_found(boot, size: int) -> None:
    """Under the user's own manager, where the output goes to a file: this user reads no journal."""
    lab = Lab(boot())
    lab.guest.start_user_manager("tester")
    flood = service(
        "flood.py", str(size), "READY", "0", ready="log:^READY$", smoke={"start_timeout": "300s"}, MemoryMax="64M"
    )
    folder = lab.write("flood", config({"flood": flood}), {"flood.py": _FLOOD})
    # Of the free space, 200 MiB stay: it writes a gigabyte a second, and is looked at some times in each.
    lab.shell("fallocate -l $(($(df --output=avail -BM /tmp | tail -1 | tr -d M) - 200))M /tmp/filler; df -h /tmp")
    try:
        outcome = lab.run("smoke", "--engine", "user", folder=folder, user="tester", timeout=900)
    finally:
        lab.shell("rm /tmp/filler")
    lab.shell("loginctl disable-linger tester; systemctl stop user@1000.service user-runtime-dir@1000.service")
    assert outcome.statuses("flood").get("CGP503") == "pass", (outcome.text, outcome.stderr)
    assert outcome.statuses("flood").get("CGP504") is None


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("size", "user"), [(256, None), (32, "runner"), pytest.param(2048, None, marks=pytest.mark.measured)]
)
def test_a_flood_in_the_start_hides_no_ready_line_from_the_system_manager(
    boot, size: int, user: str | None, say
) -> None:  # fmt: skip
    """As root and through sudo: the line after all of it, or half of it, and a twin that never writes it.

    The journal here has room for 12 MiB and takes 4 MiB a second: this would take a minute, and all that others wrote.
    """
    lab = Lab(boot())
    patience = {"start_timeout": "30s" if size < 1000 else "120s", "duration": "1s"}
    flood = {
        "last": service("flood.py", str(size), "READY", "0", ready="log:^READY$", smoke=patience, MemoryMax="64M"),
        "middle": service(
            "flood.py", str(size // 2), "READY", str(size // 2), ready="log:^READY$", smoke=patience, MemoryMax="64M"
        ),
        "never": service("flood.py", str(size // 8), "READY?", "0", ready="log:^READY$", MemoryMax="64M",
                         smoke={"start_timeout": "8s"}),
    }  # fmt: skip
    before = _logged(lab)
    outcome = lab.run("smoke", "--engine", "systemd", folder=lab.write("floods", config(flood), {"flood.py": _FLOOD}),
                      user=user, timeout=1500)  # fmt: skip
    say(f"{size} MiB: the journal has {_logged(lab) - before} MiB more;", *(
        f"{name} {outcome.service(name)['duration_seconds']:.1f} s" for name in flood))  # fmt: skip
    assert _logged(lab) - before < 8
    statuses = {name: outcome.statuses(name).get("CGP503") for name in flood}
    assert (statuses["last"], statuses["middle"]) == ("pass", "pass"), (outcome.text, outcome.stderr)
    never = outcome.finding("CGP505", "never")
    assert (never["status"], "no line of its log matches" in never["message"]) == ("fail", True), never
    assert outcome.service("never")["log_tail"][-1] == "READY?"


def _logged(lab: Lab) -> int:
    """The size of the journal, in MiB."""
    return int(lab.shell("du -smc /run/log/journal /var/log/journal 2>/dev/null | tail -1").split()[0])
