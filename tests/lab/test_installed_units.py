"""Daemons of Debian with the units of their own packages, in one guest: limits that hold, and one that is lost.

The image with the packages is built once and then found in the cache.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.configs import report_of_run, said

_SOURCE = Path(__file__).parents[2] / "src"
_PACKAGES = ("redis-server", "memcached", "nginx-light", "prometheus-node-exporter")
#: Configuration that needs no IPv6, which user-mode-linux lacks; and a drop-in that is read after that of the plan.
_FILES = {
    "site": "server { listen 8080 default_server; root /var/www/html; }\n",
    "memcached.conf": "-d\n-m 32\n-l 127.0.0.1\n-p 11211\n-u memcache\n",
    "lost/90-more.conf": "[Service]\nMemoryMax=2G\n",
    "tiny.conf": 'port 0\nunixsocket /run/redis-tiny/redis.sock\nsave ""\n',
}
_CONFIG = """
[project]
name = "daemons"
[target]
packages = ["redis-server", "memcached", "nginx-light", "prometheus-node-exporter"]
machine = "uml"
memory = "512M"
[target.paths]
"/etc/nginx/sites-enabled/default" = "site"
"/etc/memcached.conf" = "memcached.conf"
"/etc/redis/redis-tiny.conf" = "tiny.conf"
"/etc/systemd/system/memcached.service.d" = "lost"
[slices.shop]
MemoryMax = "256M"
[services.redis]
unit = "redis.service"
slice = "shop"
MemoryMax = "64M"
smoke.ready = "tcp://127.0.0.1:6379"
[services.tiny]
unit = "redis-server@.service"
instance = "tiny"
slice = "shop"
TasksMax = 12
[services.nginx]
unit = "nginx.service"
slice = "shop"
MemoryMax = "64M"
smoke.ready = "tcp://127.0.0.1:8080"
[services.exporter]
unit = "prometheus-node-exporter.service"
slice = "shop"
CPUQuota = "90%"
smoke.ready = "http://127.0.0.1:9100/metrics"
[services.lost]
unit = "memcached.service"
MemoryMax = "64M"
smoke.ready = "tcp://127.0.0.1:11211"
[services.small]
unit = "systemd-tmpfiles-clean.service"
MemoryMax = "64M"
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of one run of all services."""
    folder = tmp_path_factory.mktemp("installed") / "project"
    for name, text in _FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "cgroup-preflight.toml").write_text(_CONFIG)
    return report_of_run(folder, "debian-12")


@pytest.mark.parametrize("name", ["redis", "tiny", "nginx", "exporter", "small"])
def test_a_daemon_runs_with_the_unit_of_its_package(report: dict[str, Any], name: str) -> None:
    assert said(report, name, "fail", "unverified") == []
    assert {"CGP501", "CGP503"} <= {code for code, _ in said(report, name, "pass")}


def test_limits_are_those_of_the_plan_and_of_the_unit(report: dict[str, Any]) -> None:
    found = {
        item["name"]: {limit["file"].rpartition("/")[2]: limit["actual"] for limit in item["limits"]}
        for item in report["services"]
    }
    assert found["redis"] == {"memory.max": str(64 << 20)}
    assert found["tiny"] == {"memory.max": str(256 << 20), "pids.max": "12"}
    assert found["exporter"]["cpu.max"] == "90000 100000"


def test_a_limit_that_a_later_drop_in_takes_away_is_lost(report: dict[str, Any]) -> None:
    (lost,) = said(report, "lost", "fail")
    assert lost[0] == "CGP501"
    assert "MemoryMax=2G of /etc/systemd/system/memcached.service.d/90-more.conf wins over MemoryMax=64M" in lost[1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('unit = "redis-servr.service"', "did you mean redis-server.service? "),
        ('unit = "systemd-timesyncd.service"', "is masked: systemd never starts the unit"),
    ],
)
def test_a_unit_that_cannot_run_there_is_told_before_the_boot(tmp_path: Path, line: str, words: str) -> None:
    config = f'[project]\nname = "x"\n[target]\npackages = {list(_PACKAGES)}\n[services.a]\n{line}\nMemoryMax = "64M"\n'
    (tmp_path / "cgroup-preflight.toml").write_text(config.replace("'", '"'))
    done = subprocess.run(
        [sys.executable, "-m", "cgroup_preflight", "run"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(_SOURCE)}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr
    assert "booting" not in done.stderr


def test_names_that_are_no_packages_are_told_together(tmp_path: Path) -> None:
    config = '[project]\nname = "x"\n[target]\npackages = ["nginks", "redis-servr"]\n[services.a]\nunit = "a.service"\n'
    (tmp_path / "cgroup-preflight.toml").write_text(config)
    done = subprocess.run(
        [sys.executable, "-m", "cgroup_preflight", "run"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(_SOURCE)}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "debian-12 has no package nginks, redis-servr" in done.stderr


def test_nothing_of_a_package_starts_at_boot() -> None:
    """Also not where everything of the distribution starts."""
    words = [word for name in _PACKAGES for word in ("--package", name)]
    done = subprocess.run(
        [sys.executable, "-m", "cgroup_preflight", "guest", "run", "--full", *words, "--", "sh", "-c",
         "systemctl is-system-running --wait; systemctl list-units --type=service --state=running --no-legend --plain"],
        capture_output=True, text=True, timeout=400, env={**os.environ, "PYTHONPATH": str(_SOURCE)}, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("running\n"), done.stdout + done.stderr
    assert not any(word in done.stdout for word in ("redis", "nginx", "memcached", "prometheus")), done.stdout
