"""Runs in the guest: gives values to systemd, prints what systemd and the kernel have as JSON.

    python3 arithmetic_inside.py WAY INPUT.json

WAY `file`: INPUT has `files` (path below /run/systemd/system to text) and `units`, which are slices. The files are read as
they are. No process is started: a slice has a cgroup with all its files without one.

WAY `run`: by the functions with which a run starts its services, with the engine `systemd` as root, else with `user`. INPUT
has a `config` with a slice for each value and one service, `units` and `slices` (the values that each service, and each
slice without one, gets) and `second` (the settings of one more service, which gets them as options of systemd-run). Each service waits at its
gate, the process that holds its cgroup until the files are read.

`attributes` and `properties`: the files to read for each unit, and the properties to ask the manager for.
"""

import itertools
import json
import os
import subprocess
import sys
import time

UNITS = "/run/systemd/system"
ROOT = "/sys/fs/cgroup"
GROUP = 100


def call(*words, timeout=300.0):
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        sys.stderr.write(f"{words[:3]}: {done.stderr[-2000:]}\n")
    return done.stdout


def read(unit, attributes):
    found = {}
    for name in attributes:
        try:
            with open(f"{ROOT}/{unit}/{name}") as file:
                found[name] = file.read().strip()
        except OSError as error:
            found[name] = f"!{error.strerror}"
    return found


def from_files(work):
    """Group by group, because each start looks at every loaded slice next to it."""
    seen = {}
    for at in range(0, len(work["units"]), GROUP):
        units = work["units"][at : at + GROUP]
        files = {path: text for path, text in work["files"].items() if path.partition(".d/")[0] in units}
        for path, text in files.items():
            os.makedirs(os.path.dirname(f"{UNITS}/{path}"), exist_ok=True)
            with open(f"{UNITS}/{path}", "w", encoding="utf-8") as file:
                file.write(text)
        call("systemctl", "daemon-reload")
        call("systemctl", "start", "--", *units)
        seen |= {unit: read(unit, work["attributes"]) for unit in units}
        call("systemctl", "stop", "--", *units)
        for path in files:
            os.unlink(f"{UNITS}/{path}")
            if "/" in path:
                os.rmdir(os.path.dirname(f"{UNITS}/{path}"))
    call("systemctl", "daemon-reload")
    return seen


def from_run(work):
    from cgroup_preflight.config.load import parse
    from cgroup_preflight.core.reading import value_or
    from cgroup_preflight.core.records import replace
    from cgroup_preflight.engines import run_scope
    from cgroup_preflight.engines.base import Launch, Phase
    from cgroup_preflight.engines.choice import choose_engine
    from cgroup_preflight.engines.hold import wait_until
    from cgroup_preflight.engines.session import local_door
    from cgroup_preflight.engines.systemd import Manager, bus_environment, private_bus
    from cgroup_preflight.host.command import LiveRunner
    from cgroup_preflight.host.fs import LiveFs
    from cgroup_preflight.host.gather import gather
    from cgroup_preflight.plan.build import build_plan, scoped
    from cgroup_preflight.plan.model import SlicePlan
    from cgroup_preflight.plan.unit_syntax import setting_pairs

    facts, uid = gather(LiveFs(), LiveRunner()), os.getuid()
    choice = choose_engine(facts, "user" if uid else "systemd", ())
    door = local_door(bus_environment(choice, uid))
    engine = Manager(
        choice, door, private_bus(choice, door.manager), uid=uid, systemd=value_or(facts.systemd_version, 0)
    )
    shipped = build_plan(parse(work["config"].encode(), shown="values.toml", folder="/"))
    by_case = {item.label: item.settings for item in shipped.slices}
    (service,) = shipped.services
    merged = lambda cases: tuple(setting for case in cases for setting in by_case[case])  # noqa: E731
    services = tuple(
        replace(service, label=unit, unit=f"{unit}.service", settings=merged(cases))
        for unit, cases in work["units"].items()
    )
    slices = tuple(
        SlicePlan(label=unit, unit=f"{unit}.slice", settings=merged(cases)) for unit, cases in work["slices"].items()
    )
    name = run_scope.new_name()
    plan = scoped(replace(shipped, slices=slices, services=services), name)
    launches = [
        Launch(unit=item.unit, slice=item.slices[-1], description="lab", command=("/bin/sleep", "900"),
               settings=setting_pairs(item.settings), hold_before=900.0, hold_after=0.0, start_timeout=900.0)
        for item in plan.services
    ]  # fmt: skip
    labels = {item.unit: item.label for item in plan.services}
    times = [time.monotonic()]
    with run_scope.run_scope(engine, door, plan, name, facts.mount_point) as run:
        times.append(time.monotonic())
        refused = {}
        # A few at a time: each call has 30 s, also on a busy machine.
        for at in range(0, len(launches), 2):
            refused |= engine.start(launches[at : at + 2])
        times.append(time.monotonic())
        second = f"{name}-second.service"
        words = [f"--property={key}={text}" for key, text in work["second"].items()]
        manager = ("--user",) if uid else ()
        call(
            "systemd-run", *manager, "--quiet", f"--unit={second}", f"--slice={name}.slice", *words, "/bin/sleep", "900"
        )
        waiting = [unit for unit in labels if unit not in refused]
        # Not `engine.phases`, which does not tell a gate from a job in a queue.
        phases = lambda: {unit: state.phase for unit, state in engine.states(waiting).items()}  # noqa: E731
        here = (Phase.AT_GATE, Phase.OVER)
        wait_until(door.clock, lambda: all(phase in here for phase in phases().values()), 60.0)
        late = {labels[unit]: phase for unit, phase in phases().items() if phase not in here}
        times.append(time.monotonic())
        labels |= {second: "second", **{item.unit: item.label for item in plan.slices if item.label}}
        top = run.cgroups[f"{name}.slice"].lstrip("/")
        seen = {label: read(f"{top}/{unit}", work["attributes"]) for unit, label in labels.items()}
        shown = properties(manager, labels, work["properties"])
        times.append(time.monotonic())
    # Some of these have a thousandth of a CPU, also for their end.
    wait_until(door.clock, lambda: not any(map(os.path.lexists, run.rest.left)), 60.0)
    left = [path for path in run.rest.left if os.path.lexists(path)]
    times.append(time.monotonic())
    steps = zip(("slices", "start", "wait", "read", "end"), itertools.pairwise(times), strict=True)
    return {"seen": seen, "shown": shown, "refused": {labels[unit]: words for unit, words in refused.items()},
            "engine": engine.name, "late": late, "left": left, "seconds": {step: round(after - before, 1) for step, (before, after) in steps}}  # fmt: skip


def properties(manager, labels, names):
    """What `systemctl show` says of each unit, by label."""
    text = call("systemctl", *manager, "show", f"--property={','.join(('Id', *names))}", "--", *labels)
    found = {}
    for block in text.split("\n\n"):
        shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found[labels[shown.pop("Id")]] = shown
    return found


def numbers():
    from cgroup_preflight.checks.numbers import numbers_of
    from cgroup_preflight.host.command import LiveRunner
    from cgroup_preflight.host.fs import LiveFs
    from cgroup_preflight.host.gather import gather

    found = numbers_of(gather(LiveFs(), LiveRunner()))
    return {"page_size": found.page_size, "memory_bytes": found.memory_bytes, "tasks_max": found.tasks_max}


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as file:
        work = json.load(file)
    found = from_run(work) if sys.argv[1] == "run" else {"seen": from_files(work)}
    version = call("systemctl", "--version").split()[1]
    json.dump({**found, "numbers": numbers(), "systemd": int(version), "kernel": os.uname().release, "cpus": os.cpu_count()},
              sys.stdout)  # fmt: skip
