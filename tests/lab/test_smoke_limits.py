"""Limits as the kernel spells them, limits that do not hold, and limits that cannot be tried."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core.report import Location
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.plan.expect import HostNumbers, expectations
from tests.lab.configs import Lab, Outcome, config, fixture, service, toml

_MIB = 1 << 20
_JOB = fixture("exiter", "--code=0", ready="exit")


def _job(**keys: object) -> dict[str, object]:
    return {**_JOB, **keys}


@pytest.fixture
def lab(guest: Guest) -> Lab:
    return Lab(guest)


@pytest.fixture(scope="module")
def numbers(boot) -> tuple[int, int]:
    """Bytes of memory and the most tasks of the guest, as systemd takes percentages of them."""
    guest: Guest = boot()
    words = guest.read_file("/proc/meminfo").decode().split()
    tasks = [int(guest.read_file(f"/proc/sys/kernel/{name}")) for name in ("pid_max", "threads-max")]
    return int(words[1]) * 1024, min(tasks)


@pytest.fixture(scope="module")
def spelled(boot, fixtures) -> Outcome:
    """One run with every property that this kernel has a file for, in the spellings that need arithmetic."""
    slices = {
        # More than 15% of what the host has, which is what systemd gives a service that asks for nothing.
        "a": {"MemoryMax": "160M", "TasksMax": 600},
        "a-b": {"MemoryHigh": "64M", "MemoryMax": "96M", "CPUWeight": "idle"},
        "roof": {"MemoryMax": "48M"},
    }
    services = {
        "protected": _job(slice="a-b", MemoryMin="8M", MemoryLow="16777217", MemoryHigh="40M"),
        "shares": _job(slice="a-b", IOWeight=60, CPUWeight=300),
        "percent": _job(MemoryMax="10%", TasksMax="10%"),
        "period": _job(CPUQuota="20%", CPUQuotaPeriodSec="50ms"),
        "endless": _job(slice="roof", MemoryMax="infinity", TasksMax="infinity"),
    }
    lab = Lab(boot())
    return lab.run("smoke", folder=lab.write("spelled", config(services, slices)))


def test_every_spelling_is_read_back(spelled: Outcome, numbers: tuple[int, int]) -> None:
    memory, tasks = numbers
    nest = "a.slice/a-b.slice"
    above = {
        "a.slice/memory.max": str(160 * _MIB), "a.slice/pids.max": "600", f"{nest}/memory.high": str(64 * _MIB),
        f"{nest}/memory.max": str(96 * _MIB), f"{nest}/cpu.idle": "1",
    }  # fmt: skip
    assert spelled.limits("protected") == {
        **above,
        f"{nest}/protected.service/memory.min": str(8 * _MIB),
        # One byte more than 16M: the kernel keeps whole pages.
        f"{nest}/protected.service/memory.low": str(16 * _MIB),
        f"{nest}/protected.service/memory.high": str(40 * _MIB),
    }
    assert spelled.limits("shares").items() >= {**above, f"{nest}/shares.service/cpu.weight": "300"}.items()
    assert spelled.limits("percent") == {
        "percent.service/memory.max": str(memory // 4096 // 10 * 4096),
        "percent.service/pids.max": str(tasks // 10),
    }
    assert spelled.limits("period") == {"period.service/cpu.max": "10000 50000"}
    assert spelled.limits("endless") == {
        "roof.slice/memory.max": str(48 * _MIB),
        "roof.slice/endless.service/memory.max": "max",
        "roof.slice/endless.service/pids.max": "max",
    }


#: Settings whose file needs arithmetic; each is set on a slice of its own kind and the file compared with the plan's.
_ARITHMETIC = [
    *({"MemoryMax": text} for text in ("16777217", "100M", "1.5G", "33.33%", "7%", "infinity", "18014398509481984")),
    *({"MemoryHigh": text} for text in ("20000001", "50%")),
    *({"MemorySwapMax": text} for text in ("0", "12345678", "10%", "infinity")),
    *({"MemoryLow": text} for text in ("0", "9999999", "infinity")),
    *({"MemoryMin": text} for text in ("4097", "1.5M")),
    *({"TasksMax": text} for text in ("1", "77", "0.5%", "33.3%", "100%", "infinity")),
    *({"CPUWeight": text} for text in ("1", "10000", "idle")),
    *({"CPUQuota": text} for text in ("0.5%", "0.01%", "1%", "33%", "33.33%", "250%", "10000%")),
    *({"CPUQuota": quota, "CPUQuotaPeriodSec": period} for quota, period in (
        ("20%", "50ms"), ("1%", "10ms"), ("3%", "1ms"), ("250%", "1s"), ("0.2%", "1s"), ("7%", "33333us"))),
]  # fmt: skip


def test_the_plan_expects_what_systemd_and_the_kernel_make_of_it(lab: Lab, numbers: tuple[int, int]) -> None:
    """Each value through systemd into the kernel's file, against the pure arithmetic of the plan."""
    host = HostNumbers(page_size=4096, memory_bytes=numbers[0], tasks_max=numbers[1])
    commands, expected = [], []
    for number, properties in enumerate(_ARITHMETIC):
        settings = [
            Setting(property=name, text=text, value=BY_NAME[name].parse(text), location=Location(file="lab", line=1))
            for name, text in properties.items()
        ]
        (wanted,) = expectations(settings, host)
        expected.append((properties, wanted.attribute, wanted.text))
        unit = f"labsum{number}.slice"
        content = "".join(f"{name}={text}\n" for name, text in properties.items())
        commands.append(f"printf '[Slice]\n{content.replace('%', '%%')}' > /run/systemd/system/{unit}")
    units = " ".join(f"labsum{number}.slice" for number in range(len(_ARITHMETIC)))
    files = [f"/sys/fs/cgroup/labsum{number}.slice/{wanted[1]}" for number, wanted in enumerate(expected)]
    try:
        lab.shell("\n".join([*commands, "systemctl daemon-reload", f"systemctl start {units}"]))
        lines = lab.shell(f"for f in {' '.join(files)}; do cat $f; done").splitlines()
    finally:
        lab.shell(f"systemctl stop {units}; rm /run/systemd/system/labsum*.slice; systemctl daemon-reload")
    found = [(*wanted[:2], line) for wanted, line in zip(expected, lines, strict=True)]
    assert found == expected


def test_a_share_without_its_file_is_a_warning_with_the_cause(spelled: Outcome) -> None:
    """This kernel has the io controller, but neither io.cost nor bfq."""
    (found,) = [f for f in spelled.findings("CGP501", "shares") if f["status"] != "pass"]
    assert found["status"] == "warn"
    assert "IOWeight" in found["message"]
    assert "io.cost" in found["message"]
    assert "bfq" in found["message"]


def test_what_can_bite_does_bite(spelled: Outcome) -> None:
    pushed = {(f["subject"], f["message"].split(":")[0]): f["status"] for f in spelled.findings("CGP511")}
    assert pushed == {
        ("protected", "MemoryHigh"): "pass",
        ("percent", "MemoryMax"): "pass",
        ("percent", "TasksMax"): "pass",
        ("period", "CPUQuota"): "pass",
        ("a.slice", "MemoryMax"): "pass",
        ("a.slice", "TasksMax"): "pass",
        ("a-b.slice", "MemoryHigh"): "pass",
        ("a-b.slice", "MemoryMax"): "pass",
        ("roof.slice", "MemoryMax"): "pass",
    }
    assert (spelled.verdict, spelled.exit_status) == ("pass", 0)


def test_a_quota_above_the_cpus_is_unverified(lab: Lab) -> None:
    folder = lab.write("quota", config({"job": _job(CPUQuota="150%")}))
    outcome = lab.run("smoke", folder=folder)
    assert (outcome.verdict, outcome.exit_status) == ("unverified", 3)
    assert outcome.limits("job") == {"job.service/cpu.max": "150000 100000"}
    found = outcome.finding("CGP511", "job")
    assert found["status"] == "unverified"
    assert "1 CPU" in found["message"]
    allowed = lab.run("smoke", "--allow-unverified", folder=folder)
    assert (allowed.verdict, allowed.exit_status) == ("unverified", 0)


_ESCAPE = """\
#!/bin/sh
# Needs root: moves itself, or a child, to a cgroup that no limit of the unit reaches. What the unit sees is read-only.
mount -o remount,rw,bind /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/lab-elsewhere
away='echo $$ > /sys/fs/cgroup/lab-elsewhere/cgroup.procs; exec sleep 311'
case $1 in
main) echo $$ > /sys/fs/cgroup/lab-elsewhere/cgroup.procs ;;
child) sh -c "$away" & ;;
# A daemon: its parent is gone at once, so it is nobody's child.
orphan) (setsid sh -c "$away" &) ;;
esac
exec sleep 311
"""
#: Service, the file that somebody writes to behind systemd's back, and what they write.
_LIFTED = {"no-memory": ("memory.max", "max"), "no-cpu": ("cpu.max", "max"), "no-pids": ("pids.max", "4000")}
_ON = "/sys/fs/cgroup/cgpf*.slice"


@contextmanager
def meddling(lab: Lab, *commands: str) -> Iterator[None]:
    """Runs shell commands in the guest again and again, until the block ends."""
    background = lab.guest.spawn(["sh", "-c", "while :; do " + "; ".join([*commands, "sleep 0.02"]) + "; done"])
    try:
        yield
    finally:
        lab.guest.wait(background, timeout=0.0)


@pytest.fixture(scope="module")
def broken(boot, fixtures) -> Outcome:
    """One run in which everything is configured well and nothing holds."""
    services = {
        "share": _job(IOWeight=60),
        "main": service("escape.sh", "main", MemoryMax="48M"),
        "child": service("escape.sh", "child", MemoryMax="48M"),
        "orphan": service("escape.sh", "orphan", MemoryMax="48M"),
        "no-memory": service("/bin/sleep", "312", MemoryMax="48M", smoke={"duration": "1s"}),
        "no-cpu": service("/bin/sleep", "313", CPUQuota="30%"),
        "no-pids": service("/bin/sleep", "314", TasksMax=64),
    }
    lab = Lab(boot())
    sections = config(services, require={"controllers": ["memory", "cpu", "io"]})
    folder = lab.write("broken", sections, {"escape.sh": _ESCAPE})
    lifts = [
        f"for f in {_ON}/*-{name}.service/{attribute}; do [ -e $f ] && echo {text} > $f; done"
        for name, (attribute, text) in _LIFTED.items()
    ]
    with meddling(lab, *lifts):
        return lab.run("smoke", folder=folder)


def test_a_run_in_which_limits_do_not_hold_fails(broken: Outcome) -> None:
    assert (broken.verdict, broken.exit_status) == ("fail", 1)


def test_a_share_that_is_required_fails_without_its_file(broken: Outcome) -> None:
    assert broken.finding("CGP501", "share")["status"] == "fail"


@pytest.mark.parametrize("name", _LIFTED)
def test_a_limit_that_somebody_lifts_fails(broken: Outcome, name: str) -> None:
    assert broken.finding("CGP501", name)["status"] == "fail"
    (row,) = broken.service(name)["limits"]
    assert row["ok"] is False
    assert row["file"].endswith(_LIFTED[name][0])
    assert row["actual"].split()[0] == _LIFTED[name][1]


@pytest.mark.parametrize("who", ["main", "child", "orphan"])
def test_a_process_that_leaves_the_unit_fails(broken: Outcome, who: str) -> None:
    found = broken.finding("CGP502", who)
    assert found["status"] == "fail"
    assert "/lab-elsewhere" in found["message"]


@pytest.mark.usefixtures("broken")
def test_a_process_that_leaves_the_unit_does_not_stay(lab: Lab) -> None:
    """It is in no cgroup of the run any more, so systemd would have left it running."""
    lab.until("rmdir /sys/fs/cgroup/lab-elsewhere", seconds=5)


def test_a_limit_that_is_set_but_does_not_bite_fails(lab: Lab) -> None:
    """Lifted only once the probe uses CPU time with a child of its own, so what was read before was right."""
    running = "[ $(wc -l < ${f%/*}/cgroup.procs) -gt 1 ]"
    folder = lab.write("toothless", config({"job": _job(CPUQuota="20%")}))
    with meddling(lab, f"for f in {_ON}/*-_probe-*.service/cpu.max; do {running} && echo 40000 100000 > $f; done"):
        outcome = lab.run("smoke", folder=folder)
    found = outcome.finding("CGP511", "job")
    assert found["status"] == "fail"
    assert "cpu.max is '40000 100000'" in found["message"]
    assert outcome.finding("CGP501", "job")["status"] == "pass"
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)


def test_systemd_ignores_what_the_config_refuses(lab: Lab) -> None:
    """The fact that the config's strictness rests on: a wrong value loads, and the limit is not there."""
    wrong = {"MemoryMax": "512MB", "TasksMax": "many", "CPUQuota": "50"}
    unit = "[Slice]\n" + "".join(f"{key}={value}\n" for key, value in wrong.items())
    lab.guest.write_file("/run/systemd/system/labwrong.slice", unit.encode())
    try:
        assert lab.guest.run(["systemd-analyze", "verify", "/run/systemd/system/labwrong.slice"]).returncode == 0
        # A unit with right values below it, so that the controllers are on and the slice has the files.
        right = "-p MemoryMax=50M -p CPUQuota=10% -p TasksMax=9 --unit=labright sleep 100"
        lab.shell(f"systemctl daemon-reload; systemctl start labwrong.slice; systemd-run -q --slice=labwrong {right}")
        held = lab.shell("cd /sys/fs/cgroup/labwrong.slice && cat memory.max pids.max cpu.max")
        assert held.split() == ["max", "max", "max", "100000"]
    finally:
        lab.shell("systemctl stop labright labwrong.slice")
        lab.shell("rm /run/systemd/system/labwrong.slice; systemctl daemon-reload")
    folder = lab.write("wrong", config({"job": _JOB}, {"wrong": wrong}))
    outcome = lab.run("smoke", folder=folder)
    assert (outcome.exit_status, outcome.report) == (2, {})
    # Every mistake at once, each where it is and with the right spelling where there is one.
    first = toml(config({"job": _JOB}, {"wrong": wrong})).splitlines().index("[slices.wrong]") + 2
    for line, key in enumerate(wrong, first):
        assert f"cgroup-preflight.toml:{line}: {key}: " in outcome.stderr
    assert "use 512M\n" in outcome.stderr
    assert "use 50%\n" in outcome.stderr
