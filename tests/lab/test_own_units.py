"""Units of the project as a run tries them: each type of service, with its user, folders, environment and socket.

One run of all of them from the command line, in a guest; the services that cannot work are next to those that do.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.lab.configs import report_of_run, said

_UNITS = {
    "simple": """
        [Unit]
        Requires=postgresql.service
        Conflicts=multi-user.target
        [Service]
        User=shop
        StateDirectory=%N
        RuntimeDirectory=%p
        WorkingDirectory=/var/lib/simple
        EnvironmentFile=/etc/simple.env
        ExecStartPre=/bin/sh -c 'id -un > user'
        ExecStartPre=/bin/sleep 0.5
        ExecStart=/usr/bin/python3 /opt/lab/look.py ${WORD} simple shop 4096
        LimitNOFILE=4096
        NoNewPrivileges=yes
        ProtectSystem=strict
        PrivateTmp=yes
        MemoryMax=99M
        TasksMax=44
        """,
    "notifies": """
        [Service]
        Type=notify
        DynamicUser=yes
        ExecStart=/usr/bin/python3 /opt/lab/notify.py
        """,
    "forks": """
        [Service]
        Type=forking
        ExecStart=/bin/sh -c '/usr/bin/python3 /opt/lab/wait.py & sleep 0.2'
        """,
    "once": """
        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/bin/sh -c 'echo first'
        ExecStart=/bin/sh -c 'echo second'
        ExecStop=/bin/true
        """,
    "many@": """
        [Service]
        ExecStart=/usr/bin/python3 /opt/lab/wait.py %i
        """,
    "activated": """
        [Service]
        ExecStart=/usr/bin/python3 /opt/lab/activated.py
        """,
    "silent": """
        [Service]
        Type=notify
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        """,
    "absent": """
        [Service]
        ExecStart=/usr/bin/no-such-program
        """,
    "privileged": """
        [Service]
        User=shop
        ExecStart=+/usr/bin/python3 /opt/lab/wait.py
        """,
    "refused": """
        [Service]
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        CapabilityBoundingSet=CAP_NET_BIND_SERVICE
        User=no such user!
        """,
    "no-x-bit": """
        [Service]
        ExecStart=/opt/lab/wait.py
        """,
    "twice": """
        [Service]
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        """,
    "no-path": """
        [Unit]
        Wants=other.service
        [Service]
        MemoryLow=12Q
        ExecStart=lib/../wait.py
        """,
    "no-quote": """
        [Service]
        MemoryLow=12Q
        ExecStart=/bin/sh -c 'sleep 600
        """,
    "no-bus-name": """
        [Service]
        Type=dbus
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        """,
    "no-device": """
        [Unit]
        ConditionPathExists=/etc
        ConditionPathExists=/dev/nvidia0
        [Service]
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        """,
    "asserts": """
        [Unit]
        AssertPathExists=/dev/nvidia0
        [Service]
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        """,
    "asks-first": """
        [Service]
        ExecCondition=/bin/false
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        """,
    "delegates": """
        [Service]
        Delegate=memory pids
        ExecStart=/usr/bin/python3 /opt/lab/delegate.py
        """,
    "own-slice": """
        [Service]
        Slice=other.slice
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        """,
    "private-users": """
        [Service]
        PrivateUsers=yes
        PrivateDevices=yes
        PrivateNetwork=yes
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        """,
    "hands-over": """
        [Service]
        Type=notify
        NotifyAccess=all
        ExecStart=/usr/bin/python3 /opt/lab/hands_over.py
        """,
    "pid-file": """
        [Service]
        Type=forking
        PIDFile=/run/lab-pid-file
        ExecStart=/usr/bin/python3 /opt/lab/hands_over.py /run/lab-pid-file
        """,
    "private-pids": """
        [Service]
        PrivatePIDs=yes
        ExecStart=/bin/sh -c 'trap "exit 0" TERM; sleep 600 & wait'
        """,
    "mixed": """
        [Service]
        KillMode=mixed
        ExecStart=/usr/bin/python3 /opt/lab/outlive.py
        """,
    "leaves": """
        [Service]
        KillMode=process
        ExecStart=/usr/bin/python3 /opt/lab/outlive.py
        """,
    "outlives": """
        [Service]
        ExecStart=/usr/bin/python3 /opt/lab/outlive.py
        """,
    "inner": """
        [Service]
        Delegate=memory
        ExecStart=/usr/bin/python3 /opt/lab/delegate.py inner
        """,
    "devices": """
        [Service]
        DevicePolicy=closed
        DeviceAllow=/dev/nvidia0 rw
        DeviceAllow=char-drm rw
        ExecStart=/usr/bin/python3 /opt/lab/wait.py
        """,
}
_SOCKET = "[Socket]\nListenStream=/run/lab-activated.sock\n[Install]\nWantedBy=sockets.target\n"
_PROGRAMS = {
    "wait.py": "import time\nprint('up', flush=True)\ntime.sleep(600)\n",
    "notify.py": """
import os, socket, time
time.sleep(1)
line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
address = os.environ["NOTIFY_SOCKET"]
line.connect("\\0" + address[1:] if address.startswith("@") else address)
line.send(b"READY=1")
time.sleep(600)
""",
    "look.py": """
import getpass, os, resource, sys, time
word, folder, user, files = sys.argv[1:]
assert word == "from-the-file", word
assert os.getcwd() == f"/var/lib/{folder}" == os.environ["STATE_DIRECTORY"], os.getcwd()
assert getpass.getuser() == user == open("user").read().strip()
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == int(files)
assert os.environ["RUNTIME_DIRECTORY"] == "/run/simple"
print("all as the unit says", flush=True)
time.sleep(600)
""",
    "hands_over.py": """
import os, socket, sys, time
def tell(text):
    if sys.argv[1:]:
        with open(sys.argv[1] + ".new", "w") as file:
            file.write(text.removeprefix("MAINPID=") + "\\n")
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        return
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = os.environ["NOTIFY_SOCKET"]
    line.connect("\\0" + address[1:] if address.startswith("@") else address)
    line.send(text.encode())
first = os.fork()
if first == 0:
    # It is the main process when the one before it has ended, and hands over once more when it runs.
    time.sleep(2)
    tell("READY=1") if not sys.argv[1:] else None
    second = os.fork()
    if second:
        tell(f"MAINPID={second}")
    time.sleep(0.5 if second else 600)
    os._exit(0)
tell(f"MAINPID={first}")
time.sleep(0.5)
""",
    "outlive.py": """
import os, signal, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
""",
    "delegate.py": """
import os, sys, time
own = "/sys/fs/cgroup" + open("/proc/self/cgroup").read().strip().partition("::")[2]
os.mkdir(own + "/worker")
open(own + "/worker/cgroup.procs", "w").write(str(os.getpid()))
if sys.argv[1:]:
    open(own + "/cgroup.subtree_control", "w").write("+memory")
    os.mkdir(own + "/small")
    open(own + "/small/memory.max", "w").write(str(16 << 20))
    if os.fork() == 0:
        open(own + "/small/cgroup.procs", "w").write(str(os.getpid()))
        block = bytearray(b"x") * (40 << 20)
    os.wait()
print("in a cgroup of its own", flush=True)
time.sleep(600)
""",
    "activated.py": """
import os, socket, time
assert os.environ["LISTEN_FDS"] == "1"
server = socket.socket(fileno=3)
print("serves", server.getsockname(), flush=True)
while True:
    server.accept()[0].close()
""",
}
_SLICES = '[project]\nname = "lab"\n[target]\nmachine = "uml"\n[target.paths]\n"/opt/lab" = "opt"\n"/etc/simple.env" = "simple.env"\n'
_HOLD = 'duration = "1s"\nstart_timeout = "30s"\n'


def _project(folder: Path) -> None:
    (folder / "opt").mkdir(parents=True)
    (folder / "units").mkdir()
    (folder / "simple.env").write_text("WORD=from-the-file\n")
    for name, text in _PROGRAMS.items():
        (folder / "opt" / name).write_text(text)
    text = _SLICES
    for name, unit in _UNITS.items():
        lines = [line.strip() for line in unit.strip().splitlines()]
        (folder / "units" / f"{name}.service").write_text("\n".join([*lines, ""]))
        label = name.removesuffix("@")
        text += f'[services.{label}]\nunit = "units/{name}.service"\nMemoryMax = "64M"\n'
        text += 'instance = "blue"\n' if name.endswith("@") else ""
        ready = {
            "simple": "log:all as the unit says",
            "activated": "log:serves",
            "delegates": "log:in a cgroup of its own",
            "inner": "log:in a cgroup of its own",
        }.get(name, "")
        text += f"[services.{label}.smoke]\n{_HOLD}" + (f'ready = "{ready}"\n' if ready else "")
    (folder / "units/activated.socket").write_text(_SOCKET)
    (folder / "units/many@.service.d").mkdir()
    (folder / "units/many@.service.d/10-lab.conf").write_text("[Service]\nTasksMax=55\n")
    (folder / "cgroup-preflight.toml").write_text(text)


@pytest.fixture(scope="module", params=[pytest.param("debian-12", marks=pytest.mark.newest), "debian-13"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of one run of all units."""
    folder = tmp_path_factory.mktemp("units") / "project"
    _project(folder)
    return report_of_run(folder, request.param)


@pytest.mark.parametrize(
    "name",
    ["simple", "notifies", "forks", "once", "many", "activated", "delegates", "own-slice", "private-users", "devices",
     "hands-over", "pid-file", "private-pids", "mixed", "leaves"],
)  # fmt: skip
def test_a_unit_is_tried_as_it_is(report: dict[str, Any], name: str) -> None:
    assert said(report, name, "fail", "unverified") == []
    assert "CGP503" in [code for code, _ in said(report, name, "pass")]


def test_limits_of_the_unit_are_read_back_and_the_config_wins(report: dict[str, Any]) -> None:
    (simple,) = [item for item in report["services"] if item["name"] == "simple"]
    limits = {item["file"].rpartition("/")[2]: item["actual"] for item in simple["limits"]}
    assert limits == {"memory.max": str(64 << 20), "pids.max": "44"}
    assert any(
        "MemoryMax=64M of the config wins over MemoryMax=99M" in text for _, text in said(report, "simple", "skip")
    )
    assert any("requires postgresql.service" in text for _, text in said(report, "simple", "skip"))
    (many,) = [item for item in report["services"] if item["name"] == "many"]
    assert "55" in [item["actual"] for item in many["limits"]], "the drop-in of the template"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("silent", "it has not told systemd that it is ready (activating)"),
        ("absent", "systemd could not execute /usr/bin/no-such-program: there is no such file"),
        ("no-x-bit", "203: systemd could not execute /opt/lab/wait.py: it is not executable"),
        ("twice", "systemd refuses its unit: Service has more than one ExecStart= setting"),
        ("no-path", "systemd refuses its unit: units/no-path.service:5: Neither a valid executable name"),
        ("no-quote", "systemd refuses its unit: units/no-quote.service:3: Unbalanced quoting"),
        ("no-bus-name", "systemd refuses its unit: Service is of type D-Bus but no D-Bus service name"),
        ("refused", "217: systemd could not set up USER: User="),
    ],
)
def test_a_unit_that_cannot_work_fails_with_its_reason(report: dict[str, Any], name: str, text: str) -> None:
    failed = said(report, name, "fail")
    assert any(text in message for _, message in failed), failed


def test_a_command_that_the_unit_starts_as_root_is_not_compared_with_its_user(report: dict[str, Any]) -> None:
    """`ExecStart=+` is the unit's own word (systemd.service(5))."""
    assert not [message for code, message in said(report, "privileged", "fail") if code == "CGP516"]


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("no-device", "ConditionPathExists=/dev/nvidia0"),
        ("asserts", "AssertPathExists=/dev/nvidia0"),
        ("asks-first", "ExecCondition=/bin/false"),
    ],
)
def test_a_unit_whose_condition_is_not_met_is_unverified_and_the_condition_named(
    report: dict[str, Any], name: str, condition: str
) -> None:
    assert said(report, name, "unverified") == [
        ("CGP507", f"it was not started, because a condition was not met: {condition}")
    ]
    assert not {"CGP501", "CGP503"} & {code for code, _ in said(report, name, "pass", "fail")}


def test_what_outlives_the_main_process_is_judged_by_the_kill_mode(report: dict[str, Any]) -> None:
    """systemd kills it at once, leaves it, or waits until the time to stop is over."""
    assert said(report, "mixed", "warn") == said(report, "private-pids", "warn")
    assert [text.partition(":")[0] for code, text in said(report, "leaves", "warn") if code == "CGP506"] == [
        "KillMode=process leaves processes of it running after the stop"
    ]
    assert ["killed with SIGKILL" in text for code, text in said(report, "outlives", "fail")] == [True]


def test_a_kill_at_a_limit_that_the_unit_set_below_its_own_is_told_as_that(report: dict[str, Any]) -> None:
    (text,) = [text for code, text in said(report, "inner", "fail") if code == "CGP504"]
    assert "at a limit that the service itself set" in text


def test_a_slice_of_the_unit_that_the_config_lacks_is_told(report: dict[str, Any]) -> None:
    assert any("limits of Slice=other.slice of units/own-slice.service were not" in text
               for _, text in said(report, "own-slice", "warn"))  # fmt: skip
