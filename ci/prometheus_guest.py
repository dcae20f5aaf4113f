"""Debian's Prometheus in a guest, where it scrapes the exporter; for the lab and for the picture in docs/.

The package is unpacked and not installed, because its service would listen on this machine.
"""

import json
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import Any

from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.metrics.rules_files import NAMES, shipped

UNITS = "/run/systemd/system"
EXPORTER = "127.0.0.1:9753"
SERVER = "127.0.0.1:9090"
#: In the guest: Prometheus' configuration, the rules, and below `data` what it has recorded.
FOLDER = "/var/lib/lab-prometheus"
_TIMEOUT = 300
_CONFIG = f"""
global: {{{{scrape_interval: {{scrape}}, evaluation_interval: {{scrape}}}}}}
rule_files: [{FOLDER}/slices.rules.yml]
scrape_configs:
  - job_name: slices
    static_configs: [{{{{targets: ['{EXPORTER}']}}}}]
"""
#: Two slices with services of their own: one is throttled all the time, the other killed for memory again and again.
_UNIT_FILES = {
    "quota.slice": "[Slice]\nCPUQuota=20%\n",
    "burner.service": "[Service]\nSlice=quota.slice\nCPUWeight=50\nExecStart=/bin/sh -c 'while :; do :; done'\n",
    "tight.slice": "[Slice]\n",
    "victim.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nSlice=tight.slice\nExecStart=/usr/bin/tail /dev/zero\n"
                      "MemoryMax=16M\nMemorySwapMax=0\nRestart=always\nRestartSec=200ms\n",
    "prometheus.service": f"[Service]\nExecStart={input_path('prometheus')} --config.file={FOLDER}/prometheus.yml"
                          f" --storage.tsdb.path={FOLDER}/data --web.listen-address={SERVER}\n",
}  # fmt: skip
#: The unit that ships, with this checkout's program.
_DROP_IN = f"""[Service]
Environment=PYTHONPATH={input_path("src")}
ExecStart=
ExecStart=/usr/bin/python3 -m cgroup_preflight exporter --listen {EXPORTER} --interval {{interval}}
"""
#: Prints the answers to queries of the API as JSON; runs in the guest, where the server is.
_ASK = """
import json, sys, urllib.request
print(json.dumps([json.load(urllib.request.urlopen(url, timeout=20)) for url in sys.argv[1:]]))
"""
Values = dict[tuple[tuple[str, str], ...], float]


def unpacked(folder: Path, package: str = "prometheus") -> Path:
    """The folder of a Debian package's programs; downloads and unpacks it below `folder` the first time."""
    programs = folder / "usr" / "bin"
    if not programs.exists():
        folder.mkdir(parents=True, exist_ok=True)
        download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package]
        if subprocess.run(download, cwd=folder, capture_output=True, timeout=_TIMEOUT, check=False).returncode:
            subprocess.run(["apt-get", "-q", "update"], capture_output=True, timeout=_TIMEOUT, check=True)
            subprocess.run(download, cwd=folder, capture_output=True, timeout=_TIMEOUT, check=True)
        (file,) = folder.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", file, folder], check=True, timeout=_TIMEOUT)
        file.unlink()
    return programs


class Server:
    """The Prometheus in a guest."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def api(self, *paths: str) -> list[dict[str, Any]]:
        """The `data` of each answer, https://prometheus.io/docs/prometheus/latest/querying/api/."""
        done = self._guest.run(["python3", "-I", "-c", _ASK, *(f"http://{SERVER}/api/v1/{path}" for path in paths)])
        assert done.returncode == 0, done
        answers = json.loads(done.stdout)
        assert all(answer["status"] == "success" for answer in answers), answers
        return [answer["data"] for answer in answers]

    def values(self, *queries: str) -> list[Values]:
        """Of each query: the labels of each series, without those that Prometheus adds, to its value now."""
        answers = self.api(*(f"query?{urllib.parse.urlencode({'query': query})}" for query in queries))
        return [{_labels(item["metric"]): float(item["value"][1]) for item in data["result"]} for data in answers]


def _labels(metric: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, metric[name]) for name in metric.keys() - {"__name__", "job", "instance"}))


def shell(guest: Guest, command: str, timeout: float = 60.0) -> str:
    """The output of a shell command that must succeed."""
    done = guest.run(["sh", "-c", command], timeout=timeout)
    assert done.returncode == 0, done
    return done.text


def until(guest: Guest, command: str, seconds: int = 60) -> None:
    """Waits in the guest until a shell command succeeds; it has no single quotes."""
    shell(guest, f"timeout {seconds} sh -c 'until {command}; do sleep 0.1; done'", timeout=seconds + 10)


def start(guest: Guest, *, scrape: str = "2s", interval: str = "1s", seconds: int = 90) -> Server:
    """Starts the exporter as its own unit, and Prometheus; returns when both slices have been scraped, in so many seconds.

    The guest has the inputs `src` and `prometheus`. The services in the slices are not started.
    """
    for name in NAMES:
        guest.write_file(f"{FOLDER if name.startswith('slices.') else UNITS}/{name}", shipped(name))
    for name, text in _UNIT_FILES.items():
        guest.write_file(f"{UNITS}/{name}", text.encode())
    guest.write_file(
        f"{UNITS}/cgroup-preflight-exporter.service.d/lab.conf", _DROP_IN.format(interval=interval).encode()
    )
    guest.write_file(f"{FOLDER}/prometheus.yml", _CONFIG.format(scrape=scrape).encode())
    shell(
        guest, "systemctl daemon-reload; systemctl start quota.slice tight.slice cgroup-preflight-exporter prometheus"
    )
    until(
        guest, f'python3 -c "import urllib.request as u; u.urlopen(\\"http://{SERVER}/-/ready\\")" 2>/dev/null', seconds
    )
    server = Server(guest)
    deadline = time.monotonic() + seconds
    while not {"quota.slice", "tight.slice"} <= {dict(key)["slice"] for key in server.values("slice_pids_current")[0]}:
        assert time.monotonic() < deadline, shell(guest, "journalctl -b -n 50 --no-pager")
        time.sleep(0.5)
    return server
