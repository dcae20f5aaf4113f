"""Gathering asks for each thing once, and starts no process that it can do without."""

from collections import Counter

import pytest

from cgroup_preflight.host.gather import gather
from cgroup_preflight.host.snapshot import SnapshotFs, SnapshotRunner
from tests.unit.checks import hosts

_STATE = "systemctl show --property=Version,SystemState"
_SHOW = "systemctl show --property=Id,DisableControllers -- -.slice system.slice user.slice"


class CountingFs:
    """Passes every question on, and counts them by path: a file's pieces and its text are one file."""

    def __init__(self, fs: SnapshotFs) -> None:
        self._fs = fs
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str):
        def ask(*words):
            kind = "file" if name in ("read", "pieces") else name
            # A folder's names are asked for once with each beginning.
            self.asked[" ".join([kind, *map(str, words[:1]), *(map(str, words[1:]) if kind == "names" else ())])] += 1
            return getattr(self._fs, name)(*words)

        return ask


class CountingRunner(SnapshotRunner):
    def __init__(self, answers) -> None:
        super().__init__(answers)
        self.started: Counter[str] = Counter()

    def run(self, argv, **how):
        self.started[" ".join(argv)] += 1
        return super().run(argv, **how)


def _gathered(name: str) -> tuple[CountingFs, CountingRunner]:
    document = hosts.recording(name)
    fs, runner = CountingFs(SnapshotFs(document["host"])), CountingRunner(document["commands"])
    gather(fs, runner)
    return fs, runner


@pytest.mark.parametrize("name", hosts.NAMES)
def test_each_file_is_read_once(name):
    fs, runner = _gathered(name)
    assert [question for question, times in fs.asked.items() if times > 1] == []
    assert [argv for argv, times in runner.started.items() if times > 1] == []


@pytest.mark.parametrize(
    ("name", "started"),
    [
        ("debian-12", {_STATE}),
        ("debian-13", {_STATE}),
        ("nspawn", {_STATE}),
        ("debian-12-user-delegated", {_STATE, "sudo -n true"}),
        ("debian-12-root-slice-without-cpu", {_STATE, _SHOW}),
        ("podman-rootful", set()),
        ("gitlab-docker", set()),
        ("alpine", set()),
    ],
)
def test_no_process_that_files_can_spare(name, started):
    _, runner = _gathered(name)
    assert set(runner.started) == started


@pytest.mark.parametrize("name", hosts.NAMES)
def test_few_files(name):
    fs, _ = _gathered(name)
    assert sum(fs.asked.values()) < 130
