"""The example: run by each who can start units, by those who cannot, and on a kernel that cannot limit memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.configs import Lab, Outcome

_MIB = 1 << 20
#: What examples/shop/cgroup-preflight.toml asks for, worked out by hand.
_LIMITS = {
    "auth-service": {
        "api.slice/memory.max": str(192 * _MIB),
        "api.slice/cpu.weight": "80",
        "api.slice/pids.max": "64",
        "api.slice/auth-service.service/cpu.max": "40000 100000",
        "api.slice/auth-service.service/memory.max": str(64 * _MIB),
        "api.slice/auth-service.service/memory.swap.max": "0",
        "api.slice/auth-service.service/pids.max": "32",
    },
    "user-api": {
        "api.slice/memory.max": str(192 * _MIB),
        "api.slice/cpu.weight": "80",
        "api.slice/pids.max": "64",
        "api.slice/user-api.service/cpu.max": "50000 100000",
        "api.slice/user-api.service/memory.max": str(96 * _MIB),
        "api.slice/user-api.service/memory.swap.max": "0",
        "api.slice/user-api.service/pids.max": "32",
    },
    "worker": {
        "worker.slice/cpu.max": "50000 100000",
        "worker.slice/cpu.weight": "20",
        "worker.slice/memory.max": str(96 * _MIB),
        "worker.slice/worker.service/cpu.max": "30000 100000",
        "worker.slice/worker.service/memory.max": str(48 * _MIB),
        "worker.slice/worker.service/memory.swap.max": "0",
        "worker.slice/worker.service/pids.max": "32",
    },
}
#: Each limit once: user-api's TasksMax is the same as auth-service's in the same slice.
_PUSHED = {
    ("auth-service", "CPUQuota"), ("auth-service", "MemoryMax"), ("auth-service", "TasksMax"),
    ("user-api", "CPUQuota"), ("user-api", "MemoryMax"),
    ("worker", "CPUQuota"), ("worker", "MemoryMax"), ("worker", "TasksMax"),
    ("api.slice", "MemoryMax"), ("api.slice", "TasksMax"),
    ("worker.slice", "MemoryMax"), ("worker.slice", "CPUQuota"),
}  # fmt: skip
#: The same MemorySwapMax of both services in api is one limit.
_NO_SWAP = {("auth-service", "skip"), ("worker", "skip")}


def assert_passed(outcome: Outcome, *, engine: str, below: str) -> None:
    """All that a passed run of the example has to show; `below` is the cgroup that the run's own slice is in."""
    assert (outcome.verdict, outcome.exit_status) == ("pass", 0), outcome.text
    assert {f["status"] for f in outcome.report["findings"]} <= {"pass", "skip", "warn"}
    assert outcome.report["host"]["engine"] == engine
    assert [row["name"] for row in outcome.report["services"]] == sorted(_LIMITS)
    for name, limits in _LIMITS.items():
        row = outcome.service(name)
        assert row["engine"] == engine
        assert row["cgroup"].startswith(f"{below}/cgpf")
        assert row["cgroup"].endswith(row["unit"])
        assert all(limit["ok"] for limit in row["limits"])
        assert outcome.limits(name) == limits
        assert 0 < row["memory_peak_bytes"] < int(limits[f"{_place(name)}/memory.max"])
        assert row["cpu"]["nr_periods"] > 0
        assert (row["oom_kills"], row["result"], row["exit_status"]) == (0, "success", 0)
        assert row["duration_seconds"] >= 0.5
        assert {outcome.finding(code, name)["status"] for code in ("CGP501", "CGP502", "CGP503")} == {"pass"}
    # user-mode-linux counts CPU time in ticks of 10 ms: a service that only waits may have none.
    assert sum(row["cpu"]["usage_usec"] for row in outcome.report["services"]) > 0
    pushed = outcome.findings("CGP511")
    tried = {(f["subject"], f["message"].split(":")[0]) for f in pushed if f["status"] == "pass"}
    assert tried == _PUSHED
    # No swap in this guest: that is said, and nothing is made of it.
    assert {(f["subject"], f["status"]) for f in pushed if "MemorySwapMax" in f["message"]} == _NO_SWAP
    assert len(pushed) == len(_PUSHED | _NO_SWAP)
    assert outcome.finding("CGP510", "run")["status"] == "pass"
    for name in _LIMITS:
        counted = outcome.finding("CGP509", name)["evidence"]
        assert counted[f"{_place(name).partition('/')[0]} memory.peak"] > 0
        assert counted[f"{name}.service cpu.stat nr_periods"] > 0


def _place(name: str) -> str:
    return f"{'worker' if name == 'worker' else 'api'}.slice/{name}.service"


def test_root(guest: Guest, shop: Path) -> None:
    assert_passed(Lab(guest).run("run", folder=shop), engine="systemd", below="")


def test_ordinary_user_with_sudo(guest: Guest, shop: Path) -> None:
    lab = Lab(guest)
    call = lab.spawn("run", folder=shop, user="runner")
    owners = lab.until("pgrep -x user-api >/dev/null && pgrep -x worker > /dev/null") + lab.shell(
        "for pid in $(pgrep -x user-api) $(pgrep -x worker); do stat -c %U /proc/$pid; done"
    )
    assert_passed(lab.wait(call), engine="systemd", below="")
    # Root's rights are for starting units; the program of a pull request gets none of them.
    assert owners == "runner\nrunner\n"


@pytest.fixture
def user_manager(guest: Guest) -> Iterator[None]:
    """A user manager for `tester`, ended again."""
    guest.start_user_manager("tester")
    yield
    Lab(guest).shell("loginctl disable-linger tester; systemctl stop user@1000.service user-runtime-dir@1000.service")


@pytest.mark.usefixtures("user_manager")
def test_ordinary_user_with_the_user_manager_alone(guest: Guest, shop: Path) -> None:
    lab = Lab(guest)
    # The worker's readiness is a line of its log, and this user reads no journal.
    assert guest.run(["sh", "-c", "journalctl -n1 2>/dev/null | grep -q ."], user="tester").returncode != 0
    outcome = lab.run("run", folder=shop, user="tester")
    assert_passed(outcome, engine="user", below="/user.slice/user-1000.slice/user@1000.service")


def test_ordinary_user_with_nothing(guest: Guest, shop: Path) -> None:
    outcome = Lab(guest).run("run", folder=shop, user="tester")
    assert (outcome.verdict, outcome.exit_status) == ("unverified", 3)
    (found,) = outcome.findings("CGP105")
    assert found["status"] == "unverified"
    assert ["loginctl", "enable-linger", "1000"] in found["remedies"][0]["commands"]
    assert outcome.report["services"] == []


@pytest.mark.parametrize("command", ["run", "smoke"])
def test_engine_user_as_root_without_a_manager_is_no_pass(guest: Guest, shop: Path, command: str) -> None:
    outcome = Lab(guest).run(command, "--engine=user", folder=shop)
    assert (outcome.verdict, outcome.exit_status) == ("unverified", 3)
    assert outcome.report["services"] == []
    assert [f["status"] for f in outcome.findings("CGP500")] == ["unverified"]


@pytest.fixture(scope="module")
def without_memory(boot) -> Lab:
    """A guest whose kernel was told to leave the memory controller out."""
    return Lab(boot(kernel_args=("cgroup_disable=memory",)))


def test_systemd_accepts_a_memory_limit_without_the_controller(without_memory: Lab) -> None:
    """The reason for this tool: nobody but the kernel's files tells that this limit does not exist."""
    done = without_memory.guest.run(["systemd-run", "--wait", "--quiet", "-p", "MemoryMax=50M", "true"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_run_does_not_pass_without_the_memory_controller(without_memory: Lab, shop: Path) -> None:
    outcome = without_memory.run("run", folder=shop)
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)
    found = outcome.finding("CGP102", "memory")
    assert found["status"] == "fail"
    assert "cgroup_disable=memory" in found["remedies"][0]["title"]
    assert outcome.report["services"] == []


def test_smoke_does_not_pass_without_the_memory_controller(without_memory: Lab, shop: Path) -> None:
    outcome = without_memory.run("smoke", folder=shop)
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)
    for name, limits in _LIMITS.items():
        missing = {f["message"].split(":")[0] for f in outcome.findings("CGP501", name) if f["status"] == "fail"}
        assert "MemoryMax" in missing
        # The other controllers are there, and what they hold is still proven.
        held = {file: text for file, text in limits.items() if "memory" not in file}
        assert outcome.limits(name) == held
        assert outcome.service(name)["memory_peak_bytes"] is None
    pushed = {(f["subject"], f["message"].split(":")[0]): f["status"] for f in outcome.findings("CGP511")}
    pushed = {key: status for key, status in pushed.items() if status != "skip"}
    assert {status for (_, limit), status in pushed.items() if limit == "MemoryMax"} == {"fail"}
    assert {status for (_, limit), status in pushed.items() if limit != "MemoryMax"} == {"pass"}
