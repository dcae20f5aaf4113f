"""Draw Prometheus' own graph page with the metrics of the exporter. `python -m ci.prometheus_graph docs/pictures`.

In a guest, Prometheus scrapes the exporter for two minutes, while a service is throttled and another one is killed for
memory. What it recorded is shown by Prometheus on this machine, because a guest cannot be reached. Needs Chromium and
Debian's package prometheus installed, whose page lies in /usr/share/prometheus.
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import BootMode, GuestSpec
from ci.prometheus_guest import FOLDER, shell, start, unpacked

_SOURCE = Path(__file__).parents[1] / "src"
#: What happens in the guest, with the seconds after it.
_SCENES = (
    ("true", 20),
    ("systemctl start burner", 45),
    ("systemctl kill -s STOP burner; systemctl start victim", 30),
    ("systemctl stop victim", 10),
)
_GRAPHS = (
    'rate(slice_cpu_throttled_periods_total{slice="quota.slice",unit=""}[10s])',
    'slice_oom_kills_total{slice="tight.slice"}',
)
_WIDTH, _HEIGHT = 1200, 1530


def _record(folder: Path) -> float:
    """Runs all scenes and unpacks what Prometheus recorded below `folder`; the guest's time at the end."""
    cache = image.cache_folder(os.environ)
    inputs = {"src": _SOURCE, "prometheus": unpacked(cache.parent / "lab-prometheus") / "prometheus"}
    spec = GuestSpec(mode=BootMode.QUICK, inputs=inputs)
    with Guest(spec, image.ensure(recipe_for(spec.distro), cache)) as guest:
        start(guest)
        for command, seconds in _SCENES:
            shell(guest, f"{command}; sleep {seconds}", timeout=seconds + 60)
        end = float(shell(guest, "date +%s"))
        shell(guest, "systemctl stop prometheus")
        packed = guest.run(["tar", "-C", FOLDER, "-c", "data"]).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return end


@contextmanager
def _shown(folder: Path) -> Iterator[str]:
    """The address of a Prometheus that shows what was recorded and scrapes nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    words = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ]
    server = subprocess.Popen([shutil.which("prometheus") or "prometheus", *words], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{address}/-/ready", timeout=5).close()
                break
            except urllib.error.URLError:
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def main(words: list[str]) -> int:
    """Write prometheus-graph.png; exit status 0."""
    target = Path(words[0])
    browser = shutil.which("chromium") or "chromium"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        end = _record(folder)
        # The page knows whole minutes only.
        last = -int(-end // 60) * 60
        seconds = sum(scene[1] for scene in _SCENES) + last - int(end)
        query = dict[str, str]()
        for number, expression in enumerate(_GRAPHS):
            query |= {f"g{number}.expr": expression, f"g{number}.tab": "0", f"g{number}.range_input": f"{seconds}s",
                      f"g{number}.end_input": time.strftime("%Y-%m-%d %H:%M", time.gmtime(last)),
                      f"g{number}.step_input": "1"}  # fmt: skip
        with _shown(folder) as address:
            url = f"http://{address}/graph?{urllib.parse.urlencode(query)}"
            subprocess.run(
                [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/p",
                 "--virtual-time-budget=20000", f"--window-size={_WIDTH},{_HEIGHT}",
                 f"--screenshot={target / 'prometheus-graph.png'}", url],
                check=True, capture_output=True, timeout=120,
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
