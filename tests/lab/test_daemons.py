"""Daemons of Debian 12 with the units of their own packages and a small config each: docs/daemons.md has the table.

One image with all packages, which takes minutes to build the first time, and four runs: `nox -s lab -- -m daemons`.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from tests.lab.configs import report_of_run, said

pytestmark = pytest.mark.daemons

_PACKAGES = [
    "beanstalkd", "caddy", "chrony", "containerd", "dns-root-data", "etcd-server", "haproxy", "influxdb", "lighttpd",
    "memcached", "mosquitto", "nats-server", "nginx", "postgresql-15", "prometheus", "prometheus-alertmanager",
    "prometheus-node-exporter", "redis-server", "rsyslog", "syncthing", "unbound",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A daemon with the unit of its package; without `ready` the run waits for what systemd waits for."""

    unit: str
    ready: str = ""
    memory: str = "64M"
    files: tuple[tuple[str, str], ...] = ()


#: What user-mode-linux lacks has to be configured away: IPv6 for nginx, the address of a network for Alertmanager.
_NO_IPV6 = (
    (
        "/etc/nginx/sites-enabled/default",
        "server { listen 80 default_server; root /var/www/html; index index.nginx-debian.html; }\n",
    ),
)
_NO_CLUSTER = (("/etc/default/prometheus-alertmanager", 'ARGS="--cluster.listen-address="\n'),)
#: By run, because three of them listen on port 80.
_RUNS = {
    "a": {
        "prometheus": Daemon(unit="prometheus.service", ready="http://127.0.0.1:9090/-/ready", memory="256M"),
        "redis": Daemon(unit="redis-server.service", ready="tcp://127.0.0.1:6379"),
        "memcached": Daemon(unit="memcached.service", ready="tcp://127.0.0.1:11211"),
        "nginx": Daemon(unit="nginx.service", ready="http://127.0.0.1/", files=_NO_IPV6),
        "beanstalkd": Daemon(unit="beanstalkd.service", ready="tcp://127.0.0.1:11300"),
        "rsyslog": Daemon(unit="rsyslog.service"),
        "etcd": Daemon(unit="etcd.service", ready="grpc://127.0.0.1:2379", memory="128M"),
    },
    "b": {
        "node-exporter": Daemon(unit="prometheus-node-exporter.service", ready="http://127.0.0.1:9100/metrics"),
        "caddy": Daemon(unit="caddy.service", ready="http://127.0.0.1/", memory="128M"),
        "postgresql": Daemon(unit="postgresql@15-main.service", ready="tcp://127.0.0.1:5432", memory="128M"),
        "mosquitto": Daemon(unit="mosquitto.service", ready="tcp://127.0.0.1:1883"),
        "nats": Daemon(unit="nats-server.service", ready="tcp://127.0.0.1:4222"),
        "chrony": Daemon(unit="chrony.service"),
        "containerd": Daemon(unit="containerd.service", ready="unix:/run/containerd/containerd.sock", memory="128M"),
    },
    "c": {
        "alertmanager": Daemon(
            unit="prometheus-alertmanager.service", ready="http://127.0.0.1:9093/-/ready", memory="128M", files=_NO_CLUSTER
        ),
        "lighttpd": Daemon(unit="lighttpd.service", ready="tcp://127.0.0.1:80"),
        "syncthing": Daemon(unit="syncthing@shop.service", ready="http://127.0.0.1:8384/", memory="128M"),
        "influxdb": Daemon(unit="influxdb.service", ready="http://127.0.0.1:8086/ping", memory="256M"),
        "haproxy": Daemon(unit="haproxy.service", memory="128M"),
        "unbound": Daemon(unit="unbound.service", ready="tcp://127.0.0.1:53"),
    },
    "bare": {
        "nginx": Daemon(unit="nginx.service", ready="http://127.0.0.1/"),
        "alertmanager": Daemon(
            unit="prometheus-alertmanager.service", ready="http://127.0.0.1:9093/-/ready", memory="128M"
        ),
    },
}  # fmt: skip
_HEAD = f"""\
[project]
name = "daemons"
[target]
distro = "debian-12"
machine = "uml"
memory = "1G"
packages = {json.dumps(_PACKAGES)}
"""
Reports = Callable[[str], dict[str, Any]]


def _project(folder: Path, daemons: dict[str, Daemon]) -> None:
    folder.mkdir(parents=True)
    text, services = f"{_HEAD}[target.paths]\n", ""
    for name, daemon in daemons.items():
        for place, content in daemon.files:
            (folder / f"{name}.conf").write_text(content)
            text += f'"{place}" = "{name}.conf"\n'
        services += f'[services.{name}]\nunit = "{daemon.unit}"\nslice = "app"\nMemoryMax = "{daemon.memory}"\n'
        services += f'smoke.ready = "{daemon.ready}"\n' if daemon.ready else ""
        services += 'smoke.duration = "2s"\nsmoke.start_timeout = "60s"\n'
    text += '[slices.app]\nMemoryMax = "700M"\nCPUQuota = "90%"\n'
    (folder / "cgroup-preflight.toml").write_text(text + services)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """The report of a run, which is called at its first use."""
    known: dict[str, dict[str, Any]] = {}
    image.ensure(recipe_for("debian-12", packages=_PACKAGES), image.cache_folder(os.environ))

    def report(run: str) -> dict[str, Any]:
        if run not in known:
            folder = tmp_path_factory.mktemp(run) / "project"
            _project(folder, _RUNS[run])
            known[run] = report_of_run(folder, "debian-12")
        return known[run]

    return report


@pytest.mark.parametrize(
    ("run", "name"), [(run, name) for run, daemons in _RUNS.items() if run != "bare" for name in daemons]
)
def test_a_daemon_runs_with_the_unit_of_its_package(reports: Reports, run: str, name: str) -> None:
    report = reports(run)
    bad = said(report, name, "fail", "unverified")
    if any("the guest lacks exact CPU times: " in text for _, text in bad):
        pytest.skip("HAProxy aborts where a crowded machine takes the CPU from the guest")
    assert bad == []
    assert {"CGP501", "CGP502", "CGP503"} <= {code for code, _ in said(report, name, "pass")}
    (service,) = [item for item in report["services"] if item["name"] == name]
    limits = {(item["file"].count("/"), item["file"].rpartition("/")[2]): item["actual"] for item in service["limits"]}
    assert limits == {
        (2, "memory.max"): str(700 << 20), (2, "cpu.max"): "90000 100000",
        (3, "memory.max"): str(int(_RUNS[run][name].memory.removesuffix("M")) << 20),
    } | {place: text for place, text in limits.items() if place[0] == 3 and place[1] != "memory.max"}  # fmt: skip


@pytest.mark.parametrize(("name", "lack"), [("nginx", "IPv6"), ("alertmanager", "a network")])
def test_what_user_mode_linux_lacks_is_no_fail_of_the_daemon(reports: Reports, name: str, lack: str) -> None:
    report = reports("bare")
    assert said(report, name, "fail") == []
    assert any(text.startswith(f"the guest lacks {lack}: ") for _, text in said(report, name, "unverified"))
