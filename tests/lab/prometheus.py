"""Debian's Prometheus for the lab: the programs of the package, without installing it, and questions to a server.

The package's own service would listen on this machine, so the package is only unpacked.
"""

import json
import subprocess
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cgroup_preflight.guest.session import Guest

_TIMEOUT = 300
#: Prints the answer to a query of the API; runs in the guest, where the server is.
_ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"


def unpacked(folder: Path) -> Path:
    """The folder of `prometheus` and `promtool`; downloads and unpacks the package below `folder` the first time."""
    programs = folder / "usr" / "bin"
    if not (programs / "promtool").exists():
        folder.mkdir(parents=True, exist_ok=True)
        download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "prometheus"]
        if subprocess.run(download, cwd=folder, capture_output=True, timeout=_TIMEOUT, check=False).returncode:
            subprocess.run(["apt-get", "-q", "update"], capture_output=True, timeout=_TIMEOUT, check=True)
            subprocess.run(download, cwd=folder, capture_output=True, timeout=_TIMEOUT, check=True)
        (package,) = folder.glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True, timeout=_TIMEOUT)
        package.unlink()
    return programs


class Promtool:
    """Calls of promtool on this machine."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def run(self, *words: str, stdin: str = "", cwd: Path | None = None) -> tuple[int, str]:
        """Exit status, and stdout with stderr."""
        done = subprocess.run([self._program, *words], input=stdin, cwd=cwd, capture_output=True, text=True,
                              timeout=_TIMEOUT, check=False)  # fmt: skip
        return done.returncode, done.stdout + done.stderr


class Server:
    """A Prometheus that runs in a guest."""

    def __init__(self, guest: Guest, address: str) -> None:
        self._guest = guest
        self._address = address

    def api(self, path: str, **words: str) -> Any:
        """The `data` of an answer of the API, https://prometheus.io/docs/prometheus/latest/querying/api/."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(words)}"
        done = self._guest.run(["python3", "-I", "-c", _ASK, url])
        assert done.returncode == 0, done
        answer = json.loads(done.stdout)
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, query: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Labels of each series, without those that Prometheus adds, to its value now."""
        found = {}
        for item in self.api("query", query=query)["result"]:
            labels: Mapping[str, str] = item["metric"]
            own = tuple(sorted((k, v) for k, v in labels.items() if k not in ("__name__", "job", "instance")))
            found[own] = float(item["value"][1])
        return found

    def value(self, query: str) -> float | None:
        """The value of the only series; None where there is none."""
        values = list(self.values(query).values())
        assert len(values) <= 1, values
        return values[0] if values else None
