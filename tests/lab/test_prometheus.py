"""A real Prometheus scrapes the exporter in a guest, while real services are throttled and killed for memory.

The answers of its API must be what the kernel's files say, and the rules that ship must fire on it. promtool, of the same
Debian package, checks the rules, their tests, the dashboard's expressions and the exporter's own page.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ci.prometheus_guest import EXPORTER, UNITS, Server, shell, start, unpacked, until

from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import BootMode, GuestSpec
from cgroup_preflight.metrics.families import FAMILIES
from cgroup_preflight.metrics.own import OWN_FAMILIES
from cgroup_preflight.metrics.rules_files import NAMES, shipped, write_rules
from tests.lab.configs import report_of_run, said, toml
from tests.lab.conftest import KINDS

_SOURCE = Path(__file__).parents[2] / "src"
_KILLS = 5


class Promtool:
    """Calls of promtool on this machine."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def run(self, *words: str, stdin: str = "", cwd: Path | None = None) -> tuple[int, str]:
        """Exit status, and stdout with stderr."""
        done = subprocess.run([self._program, *words], input=stdin, cwd=cwd, capture_output=True, text=True,
                              timeout=300, check=False)  # fmt: skip
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def programs() -> Path:
    return unpacked(image.cache_folder(os.environ).parent / "lab-prometheus")


@pytest.fixture(scope="module")
def promtool(programs: Path) -> Promtool:
    return Promtool(programs / "promtool")


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `exporter --write-rules` writes."""
    folder = tmp_path_factory.mktemp("rules")
    write_rules(str(folder), force=False)
    return folder


def test_the_rules_are_valid_and_their_tests_pass(promtool: Promtool, rules: Path) -> None:
    assert promtool.run("check", "rules", "--lint=all", "--lint-fatal", "slices.rules.yml", cwd=rules)[0] == 0
    status, text = promtool.run("test", "rules", "slices.rules.test.yml", cwd=rules)
    assert (status, "SUCCESS" in text) == (0, True), text


def test_promtool_would_find_a_rule_that_never_fires(promtool: Promtool, rules: Path) -> None:
    path = rules / "slices.rules.yml"
    whole = path.read_text()
    path.write_text(whole.replace("[5m]) > 0.10", "[5m]) > 1.10"))
    status, text = promtool.run("test", "rules", "slices.rules.test.yml", cwd=rules)
    path.write_text(whole)
    assert (status, "SliceMemoryStalled" in text) == (1, True), text


def test_every_expression_of_the_dashboard_is_valid(promtool: Promtool, tmp_path: Path) -> None:
    board: dict[str, Any] = json.loads(shipped("slices.dashboard.json"))
    expressions = [
        target["expr"].replace("$__rate_interval", "5m")
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]
    for wrong in ([], ["sum by (slice (up)"]):
        rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate([*expressions, *wrong])]
        (tmp_path / "board.yml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
        status, text = promtool.run("check", "rules", "board.yml", cwd=tmp_path)
        assert status == len(wrong), text


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The guest after all of it, with both services quiet: what the kernel says, and the server that scraped it."""

    guest: Guest
    server: Server

    def kernel(self, path: str) -> dict[str, int]:
        """A file of keys and numbers below /sys/fs/cgroup."""
        lines = self.guest.read_file(f"/sys/fs/cgroup/{path}").decode().splitlines()
        return {key: int(value) for key, value in map(str.split, lines)}


@pytest.fixture(scope="module")
def scene(lab_inputs: dict[str, Path], programs: Path) -> Iterator[Scene]:
    inputs = {"src": lab_inputs["src"], "prometheus": programs / "prometheus"}
    spec = GuestSpec(mode=BootMode.QUICK, inputs=inputs)
    recipe = recipe_for(spec.distro)
    with Guest(spec, image.ensure(recipe, image.cache_folder(os.environ))) as guest:
        server = start(guest)
        _make_trouble(guest)
        _wait_for_snapshot(guest, server)
        yield Scene(guest=guest, server=server)


def _make_trouble(guest: Guest) -> None:
    """Throttling for some seconds and some OOM kills; then the burner is stopped and the victim gone, so nothing moves."""
    shell(guest, "systemctl start burner victim")
    until(guest, f'[ $(sed -n "s/^oom_kill //p" /sys/fs/cgroup/tight.slice/memory.events) -ge {_KILLS} ]')
    until(guest, '[ $(sed -n "s/^nr_throttled //p" /sys/fs/cgroup/quota.slice/cpu.stat) -ge 80 ]')
    shell(guest, "systemctl stop victim; systemctl kill -s STOP burner; sleep 0.5")


def _wait_for_snapshot(guest: Guest, server: Server) -> None:
    now = float(shell(guest, "date +%s.%N"))
    deadline = time.monotonic() + 60
    while sum(server.values("slice_exporter_snapshot_timestamp_seconds")[0].values()) <= now:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _key(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def test_prometheus_takes_the_page_and_the_rules(scene: Scene) -> None:
    deadline = time.monotonic() + 60
    while True:
        targets, rules = scene.server.api("targets", "rules")
        (target,) = targets["activeTargets"]
        if target["health"] == "up":
            break
        # A machine that is busy may have been too slow for this one scrape; a page that is refused is an error.
        assert "deadline exceeded" in target["lastError"]
        assert time.monotonic() < deadline
    health = [
        (rule["name"], rule["health"], rule.get("lastError")) for group in rules["groups"] for rule in group["rules"]
    ]
    assert health
    assert [rule for rule in health if rule[1:] != ("ok", None)] == []


def test_types_and_texts_are_those_of_the_table(scene: Scene) -> None:
    """Prometheus asks for OpenMetrics, where the name of a family has no `_total`."""
    (served,) = scene.server.api("metadata")
    assert {name: rows for name, rows in served.items() if name.startswith("slice_")} == {
        family.name.removesuffix("_total"): [{"type": family.kind, "help": family.help, "unit": family.unit}]
        for family in (*FAMILIES, *OWN_FAMILIES)
    }


def test_no_oom_kill_is_lost(scene: Scene) -> None:
    """The victim's own cgroup was removed at each restart; its slice has the number."""
    killed = scene.kernel("tight.slice/memory.events")["oom_kill"]
    assert killed >= _KILLS
    counted, others, events = scene.server.values(
        'sum(slice_oom_kills_total{slice="tight.slice"})',
        'sum(slice_oom_kills_total{slice!="tight.slice"})',
        'slice_memory_events_total{slice="tight.slice", unit="", event="oom_kill"}',
    )
    assert counted == {(): killed}
    assert others in ({(): 0}, {})
    assert list(events.values()) == [killed]


_BURNER = '{slice="quota.slice", unit="burner.service", resource="cpu"}'
_WAITS = f"max_over_time(rate(slice_pressure_waiting_seconds_total{_BURNER}[1m])[20m:15s]) > 0.5"
_ALERTS = 'max_over_time(ALERTS{alertname="SliceThrottledAndWaiting", slice="quota.slice"}[20m])'


@pytest.fixture(scope="module")
def pressed(lab_inputs: dict[str, Path], programs: Path) -> Iterator[Scene]:
    """A kernel with PSI, the exporter with its usual interval, and a scrape every 15 s; 20 kills, 200 ms after each other."""
    spec = replace(KINDS[1].spec, inputs={"src": lab_inputs["src"], "prometheus": programs / "prometheus"})
    recipe = recipe_for(spec.distro, with_kernel=True)
    with Guest(spec, image.ensure(recipe, image.cache_folder(os.environ))) as guest:
        server = start(guest, scrape="15s", interval="5s", seconds=300)
        # systemd starts it 20 times, and no more.
        guest.write_file(
            f"{UNITS}/victim.service.d/lab.conf", b"[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=20\n"
        )
        shell(guest, "systemctl daemon-reload; systemctl start burner victim")
        until(guest, '[ $(sed -n "s/^oom_kill //p" /sys/fs/cgroup/tight.slice/memory.events) -ge 20 ]', seconds=300)
        until(guest, '[ $(sed -n "s/^nr_throttled //p" /sys/fs/cgroup/quota.slice/cpu.stat) -ge 200 ]', seconds=120)
        # The burner goes on until Prometheus has scraped enough of it for a rate, however slow the machine is.
        deadline = time.monotonic() + 400
        while not all(server.values(_WAITS, _ALERTS)):
            assert time.monotonic() < deadline
            time.sleep(5)
        shell(guest, "systemctl kill -s STOP burner; sleep 0.5")
        _wait_for_snapshot(guest, server)
        yield Scene(guest=guest, server=server)


@pytest.mark.measured
def test_twenty_kills_between_scrapes_are_all_counted(pressed: Scene) -> None:
    assert pressed.kernel("tight.slice/memory.events")["oom_kill"] == 20
    counted, latency, count = pressed.server.values(
        'sum(slice_oom_kills_total{slice="tight.slice"})',
        'slice_exporter_event_latency_seconds_sum{by="report"}',
        'slice_exporter_event_latency_seconds_count{by="report"}',
    )
    assert counted == {(): 20}
    (reports,), (seconds,) = count.values(), latency.values()
    assert reports > 0
    print(f"from the kernel's report to the counter: {seconds / reports:.3f} s on average of {reports:.0f}")


@pytest.mark.measured
def test_pressure_is_what_the_kernel_counted(pressed: Scene) -> None:
    """The burner has one process: while its slice is throttled, all of its tasks wait."""
    (total,) = re.findall(
        r"some .*total=(\d+)",
        pressed.guest.read_file("/sys/fs/cgroup/quota.slice/burner.service/cpu.pressure").decode(),
    )
    waiting, stalled, waits, alerts = pressed.server.values(
        f"slice_pressure_waiting_seconds_total{_BURNER}", f"slice_pressure_stalled_seconds_total{_BURNER}", _WAITS, _ALERTS,
    )  # fmt: skip
    assert list(waiting.values()) == [int(total) / 1e6]
    assert 0.5 * int(total) / 1e6 < next(iter(stalled.values())) <= int(total) / 1e6
    assert waits
    assert alerts


def test_throttling_is_what_the_kernel_counted(scene: Scene) -> None:
    stat = scene.kernel("quota.slice/cpu.stat")
    one = '{slice="quota.slice", unit=""}'
    periods, throttled, seconds, usage, (share,) = scene.server.values(
        f"slice_cpu_periods_total{one}",
        f"slice_cpu_throttled_periods_total{one}",
        f"slice_cpu_throttled_seconds_total{one}",
        f"slice_cpu_usage_seconds_total{one}",
        f"slice_unit:slice_cpu_throttled_periods:ratio_increase5m{one} > 0.8",
    )
    quota = _key(slice="quota.slice")
    assert periods == {quota: stat["nr_periods"]}
    assert throttled == {quota: stat["nr_throttled"]}
    assert seconds[_key(slice="quota.slice", scope="own")] == stat["throttled_usec"] / 1e6
    assert usage == {_key(slice="quota.slice", mode=mode): stat[f"{mode}_usec"] / 1e6 for mode in ("user", "system")}
    assert share == quota


def test_limits_and_what_is_effective(scene: Scene) -> None:
    own, effective, memory = scene.server.values(
        'slice_cpu_quota_cpus{slice="quota.slice"}',
        'slice_cpu_effective_quota_cpus{slice="quota.slice"}',
        'slice_memory_limit_bytes{slice=~"sliceexporter.slice|quota.slice", unit="", kind="max"}',
    )
    burner = _key(slice="quota.slice", unit="burner.service")
    assert own == {_key(slice="quota.slice"): 0.2, burner: float("inf")}
    assert effective == {_key(slice="quota.slice"): 0.2, burner: 0.2}
    assert memory == {
        _key(slice="sliceexporter.slice", kind="max"): 256 << 20, _key(slice="quota.slice", kind="max"): float("inf"),
    }  # fmt: skip


def test_the_alerts_that_ship_fire_on_it(scene: Scene) -> None:
    (data,) = scene.server.api("alerts")
    alerts = {(item["labels"]["alertname"], item["labels"]["slice"], item["state"]) for item in data["alerts"]}
    # SliceThrottled waits for 15 minutes before it fires.
    assert {("SliceOomKill", "tight.slice", "firing"), ("SliceThrottled", "quota.slice", "pending")} <= alerts
    assert {name for name, found, _ in alerts if found not in ("tight.slice", "quota.slice")} <= {"SliceThrottled"}


def test_promtool_finds_nothing_on_the_page(scene: Scene, promtool: Promtool) -> None:
    script = "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1]).read())"
    page = scene.guest.run(["python3", "-c", script, f"http://{EXPORTER}/metrics"]).text
    assert "slice_cpu_usage_seconds_total{" in page
    assert promtool.run("check", "metrics", stdin=page) == (0, "")
    # The same call finds something in a page without texts.
    bare = "\n".join(line for line in page.splitlines() if not line.startswith("# HELP")) + "\n"
    assert promtool.run("check", "metrics", stdin=bare)[0] == 3


#: Prints the user and every folder that it may write to, of all mounts and the first levels.
_LOOK = """
import os
folders = {line.split()[4] for line in open("/proc/self/mountinfo")}
for top in ("/", "/var", "/run", "/dev", "/etc", "/sys"):
    folders.update(entry.path for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False))
found = sorted(folder for folder in folders if os.path.isdir(folder) and os.access(folder, os.W_OK))
print("root" if os.getuid() == 0 else "nobody special", found)
"""


@pytest.mark.parametrize("confined", [True, False])
def test_the_exporter_can_write_nothing(scene: Scene, confined: bool) -> None:
    """In the sandbox of its unit no folder is writable; without the sandbox, the same look finds some."""
    scene.guest.write_file("/usr/local/lib/lab-look.py", _LOOK.encode())
    text = shipped("cgroup-preflight-exporter.service").decode() if confined else "[Service]\nUser=nobody\n"
    text += "[Service]\nType=oneshot\nExecStart=\nExecStart=/usr/bin/python3 -I /usr/local/lib/lab-look.py\n"
    scene.guest.write_file(f"{UNITS}/look.service", text.encode())
    shell(scene.guest, "systemctl daemon-reload; systemctl start look")
    said_last = shell(
        scene.guest, "journalctl --sync; journalctl -u look -o cat --no-pager | grep special | tail -n 1"
    ).strip()
    assert said_last.endswith(" []") == confined, said_last


def test_systemd_finds_the_unit_well_protected(scene: Scene) -> None:
    unit = "cgroup-preflight-exporter.service"
    assert shell(scene.guest, f"systemd-analyze verify --man=no {unit} sliceexporter.slice 2>&1") == ""
    text = shell(scene.guest, f"systemd-analyze security --no-pager {unit}")
    assert float(re.findall(r"Overall exposure level [^:]*: ([0-9.]+)", text)[0]) < 2.0, text


def _project(folder: Path) -> None:
    """A project that ships the exporter's unit: the limits of its slice, and the file that ExecStart names."""
    folder.mkdir()
    for name in NAMES[3:]:
        (folder / name).write_bytes(shipped(name))
    shutil.copytree(_SOURCE, folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    program = "#!/usr/bin/python3\nimport sys\nsys.path.insert(0, '/opt/cgroup-preflight')\n"
    (folder / "cgroup-preflight").write_text(f"{program}from cgroup_preflight.cli import main\nsys.exit(main())\n")
    (folder / "cgroup-preflight").chmod(0o755)
    limits = dict(re.findall(r"(?m)^([A-Z]\w+)=(.*)$", shipped("sliceexporter.slice").decode().partition("[Slice]")[2]))
    assert set(limits) == {"CPUQuota", "MemoryMax", "MemorySwapMax", "TasksMax"}
    config = {
        "project": {"name": "exporter"},
        "target": {"machine": "uml"},
        "slices": {"sliceexporter": limits},
        "services": {"exporter": {
            "unit": "./cgroup-preflight-exporter.service", "binary": "cgroup-preflight", "slice": "sliceexporter",
            "smoke": {"ready": f"http://{EXPORTER}/metrics", "duration": "3s"},
        }},
    }  # fmt: skip
    text = toml(config).replace(
        "[services.exporter]", '[target.paths]\n"/opt/cgroup-preflight" = "src"\n[services.exporter]'
    )
    (folder / "cgroup-preflight.toml").write_text(text)


def test_the_unit_that_ships_passes_a_run_of_this_tool(tmp_path: Path) -> None:
    _project(tmp_path / "project")
    report = report_of_run(tmp_path / "project", "debian-12")
    assert said(report, "exporter", "fail", "unverified") == []
    assert report["verdict"] == "pass", report["findings"]
    (service,) = report["services"]
    limits = {item["file"].rpartition("/")[2]: item["actual"] for item in service["limits"]}
    assert limits["memory.max"] == str(256 << 20)
    assert limits["pids.max"] == "32"
