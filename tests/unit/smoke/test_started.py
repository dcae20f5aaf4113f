"""What the main process shows of the settings of its start: the same, another value, and what cannot be known."""

from pathlib import Path

import pytest

from cgroup_preflight.config.load import load
from cgroup_preflight.core.report import Status
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.model import ServicePlan
from cgroup_preflight.smoke.started import started, started_findings

_STATUS = "Name:\tweb\nPPid:\t1\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{gid}\t{gid}\t{gid}\t{gid}\nCapAmb:\t{caps}\n"
_LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max open files            {soft}                 {hard}                 files     \n"
)
_KEYS = """\
User = "shop"
Group = "web"
AmbientCapabilities = "CAP_NET_BIND_SERVICE CAP_NET_ADMIN"
LimitNOFILE = "1024:4096"
WorkingDirectory = "/var/lib/shop"
"""


def _service(folder: Path, keys: str, unit: str = "", prefix: str = "") -> ServicePlan:
    text = f'[project]\nname = "shop"\n[services.web]\nbinary = "web"\n{keys}'
    if unit:
        (folder / "web.service").write_text(f"[Service]\nExecStart={prefix}/usr/bin/web\n{unit}")
        text += 'unit = "./web.service"\n'
    (folder / "cgroup-preflight.toml").write_text(text)
    (service,) = build_plan(load(folder / "cgroup-preflight.toml")).services
    return service


def _machine(folder: Path, *, uid: int = 990, gid: int = 991, caps: str = "0000000000001400", soft: str = "4096",
             hard: str = "4096", manager: str = "1048576", cwd: str = "var/lib/shop") -> LiveFs:  # fmt: skip
    root = folder / "root"
    for name in ("etc", "proc/1", "proc/7", "var/lib/private/shop", "usr"):
        (root / name).mkdir(parents=True)
    (root / "var/lib/shop").symlink_to("private/shop")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nshop:x:990:990::/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nweb:x:991:\n")
    (root / "proc/7/status").write_text(_STATUS.format(uid=uid, gid=gid, caps=caps))
    (root / "proc/7/limits").write_text(_LIMITS.format(soft=soft, hard=hard))
    (root / "proc/1/limits").write_text(_LIMITS.format(soft=manager, hard=manager))
    (root / "proc/7/cwd").symlink_to(f"../../{cwd}")
    (root / "proc/7/root").symlink_to("../..")
    return LiveFs(str(root))


def _said(files: LiveFs, service: ServicePlan) -> dict[Status, list[str]]:
    found: dict[Status, list[str]] = {}
    for item in started_findings(service, started(files, 7, service)):
        assert item.code == "CGP516"
        found.setdefault(item.status, []).append(item.message)
    return found


def test_all_as_the_config_says_is_one_pass(tmp_path: Path) -> None:
    (message,) = _said(_machine(tmp_path), _service(tmp_path, _KEYS))[Status.PASS]
    assert message.startswith("User, Group, WorkingDirectory, AmbientCapabilities, LimitNOFILE: ")


@pytest.mark.parametrize(
    ("machine", "status", "message"),
    [
        ({"uid": 0}, Status.FAIL, "User=shop, but the main process has root"),
        ({"uid": 12345}, Status.FAIL, "User=shop, but the main process has 12345"),
        ({"gid": 0}, Status.FAIL, "Group=web, but the main process has root"),
        ({"hard": "2048", "manager": "2048"}, Status.FAIL,
         "LimitNOFILE=1024:4096, but the main process has a hard limit of 2048"),
        ({"hard": "524288"}, Status.WARN, "LimitNOFILE=1024:4096, but the main process has a hard limit of 524288"),
        ({"hard": "1056"}, Status.WARN, "LimitNOFILE=1024:4096, but the main process has a hard limit of 1056"),
        ({"hard": "unlimited"}, Status.WARN, "LimitNOFILE=1024:4096, but the main process has a hard limit of unlimited"),
        ({"caps": "0000000000000400"}, Status.WARN,
         "AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_ADMIN, but the main process has not CAP_NET_ADMIN"),
        ({"cwd": "usr"}, Status.WARN, "WorkingDirectory=/var/lib/shop, but the main process has ../../usr"),
    ],
)  # fmt: skip
def test_what_differs_is_named(tmp_path: Path, machine: dict, status: Status, message: str) -> None:
    found = _said(_machine(tmp_path, **machine), _service(tmp_path, _KEYS))
    assert found[status] == [message]
    assert len(found[Status.PASS]) == 1


def test_a_unit_says_it_too_and_the_config_wins(tmp_path: Path) -> None:
    unit = "User=shop\nLimitNOFILE=99\nAmbientCapabilities=CAP_NET_ADMIN\nAmbientCapabilities=CAP_CHOWN\n"
    service = _service(tmp_path, "LimitNOFILE = 4096\n", unit)
    found = _said(_machine(tmp_path), service)
    assert found[Status.WARN] == ["AmbientCapabilities=CAP_NET_ADMIN CAP_CHOWN, but the main process has not CAP_CHOWN"]
    assert found[Status.PASS][0].startswith("User, LimitNOFILE: ")


@pytest.mark.parametrize(
    "unit",
    [
        "User=root\n",
        "User=nobody-knows\n",
        "LimitNOFILE=infinity\n",
        "LimitNOFILE=\n",
        "AmbientCapabilities=~CAP_CHOWN\n",
        "WorkingDirectory=~\n",
        "WorkingDirectory=/usr\nRootDirectory=/srv\n",
        "WorkingDirectory=-/absent\n",
    ],
)
def test_what_cannot_be_compared_is_left_out(tmp_path: Path, unit: str) -> None:
    assert _said(_machine(tmp_path), _service(tmp_path, "", unit)) == {}


@pytest.mark.parametrize(
    ("prefix", "compared"), [("+", False), ("!", False), ("-!", False), ("", True), ("-", True), ("!!", True)]
)
def test_a_command_that_systemd_starts_as_root_whatever_user_says_is_not_compared(
    tmp_path: Path, prefix: str, compared: bool
) -> None:
    service = _service(tmp_path, "", "User=shop\n", prefix)
    failed = ["User=shop, but the main process has root"] if compared else []
    assert _said(_machine(tmp_path, uid=0), service).get(Status.FAIL, []) == failed


def test_a_process_that_is_gone_shows_nothing(tmp_path: Path) -> None:
    assert started(_machine(tmp_path), 8, _service(tmp_path, _KEYS)) == ()
