"""Measure `up` against honcho on the same three programs: `python -m ci.bench_up` on a host where `up` works.

Prints start to ready, the memory of the tool itself, and what each shows when a service is killed for memory. honcho has no
limits, so its service is killed as the kernel does it when the machine is out of memory: with SIGKILL.
"""

import argparse
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: Each listens at a port of its own and says so.
_PROGRAM = """#!/usr/bin/python3
import http.server, sys
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.BaseHTTPRequestHandler).serve_forever()
"""
_GREEDY = """#!/usr/bin/python3
import time
time.sleep(3)
block = bytearray(200 << 20)
"""
_PORTS = (18191, 18192, 18193)


def _project(folder: Path) -> None:
    for name, text in (("web", _PROGRAM), ("greedy", _GREEDY)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    services = "".join(
        f'[services.web{port}]\nbinary = "web"\nMemoryMax = "64M"\n[services.web{port}.smoke]\nargs = ["{port}"]\n'
        f'ready = "tcp://127.0.0.1:{port}"\n'
        for port in _PORTS
    )  # fmt: skip
    (folder / "cgroup-preflight.toml").write_text(
        f'[project]\nname = "bench-up"\n{services}[services.greedy]\nbinary = "greedy"\nMemoryMax = "32M"\n'
    )
    web = "".join(f"web{port}: ./web {port}\n" for port in _PORTS)
    (folder / "Procfile").write_text(f"{web}greedy: ./greedy\n")


def _listens(port: int) -> bool:
    """Whether somebody listens there, without a connection (proc_net_tcp(5))."""
    return f"0100007F:{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def _tree(pid: int) -> Iterator[int]:
    """The processes of the tool itself: it and its children that run its own program."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for word in path.read_text().split():
            command = Path(f"/proc/{word}/cmdline").read_bytes()
            if b"./web" not in command and b"greedy" not in command:
                yield from _tree(int(word))


def _memory(pid: int) -> tuple[float, float]:
    """RSS and PSS of the tool in MiB, its own helpers included."""
    sums = {"Rss": 0, "Pss": 0}
    for each in _tree(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0])
    return sums["Rss"] / 1024, sums["Pss"] / 1024


@contextmanager
def _started(argv: Sequence[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    out = folder / "out"
    with out.open("wb") as stream:
        process = subprocess.Popen(argv, cwd=folder, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True,
                                   env={**os.environ, "XDG_STATE_HOME": str(folder / "state")})  # fmt: skip
    try:
        yield process, out
    except SystemExit:
        sys.stderr.write(out.read_text())
        raise
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


def _until(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit("it took too long")
        time.sleep(0.005)


def measure(argv: Sequence[str], folder: Path) -> dict[str, float]:
    """One start, without the greedy one: seconds until all ports are open, and the memory after a second more."""
    began = time.monotonic()
    with _started(argv, folder) as (process, _):
        _until(lambda: all(map(_listens, _PORTS)))
        ready = time.monotonic() - began
        time.sleep(1)
        rss, pss = _memory(process.pid)
    _until(lambda: not any(map(_listens, _PORTS)))
    return {"ready_seconds": ready, "rss_mib": rss, "pss_mib": pss}


def shown_at_death(argv: Sequence[str], folder: Path, *, kill: bool) -> list[str]:
    """What is printed of the service that is killed for memory."""
    with _started(argv, folder) as (process, out):
        if kill:
            _until(lambda: _listens(_PORTS[0]))
            found = subprocess.run(["pgrep", "-f", "python3 ./greedy"], capture_output=True, text=True, check=True)
            for word in found.stdout.split():
                os.kill(int(word), signal.SIGKILL)
        _until(lambda: process.poll() is not None or "killed" in out.read_text(), 150)
        time.sleep(1)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", out.read_text()).splitlines()
    return [line for line in lines if "greedy" in line or "sending" in line]


def main() -> int:
    """Print the table as JSON, medians of --repeat starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--honcho", default="honcho", help="its command (PyPI, honcho==2.0.0), empty for none")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    names = [f"web{port}" for port in _PORTS]
    up = [sys.executable, "-m", "cgroup_preflight", "up"]
    ways = {"up": (up, False), **({"honcho": ([*shlex.split(args.honcho), "start"], True)} if args.honcho else {})}
    result = {}
    for name, (argv, kill) in ways.items():
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            _project(folder)
            runs = [measure([*argv, *names], folder) for _ in range(args.repeat)]
            medians = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
            result[name] = {**medians, "shown": shown_at_death(argv, folder, kill=kill)}
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
