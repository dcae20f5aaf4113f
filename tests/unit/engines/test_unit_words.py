"""What systemd-analyze says of a unit, as systemd 252 and 257 print it."""

import pytest

from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.engines.unit_words import refusal, unmet
from cgroup_preflight.host.cgroup import Observer

UNIT = "cgpf0-web.service"
VERIFIED = f"""\
/run/systemd/system/{UNIT}:2: Invalid memory limit '12Q', ignoring: Invalid argument
/run/systemd/system/other.service:3: Something else
/run/systemd/system/{UNIT}:4: Neither a valid executable name nor an absolute path: bin/../sleep
{UNIT}: Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.
Unit {UNIT} has a bad unit file setting.
"""


def test_the_lines_about_the_unit_without_the_sum():
    said = refusal(VERIFIED.splitlines(), UNIT).splitlines()
    assert [line.partition(" ")[0].rpartition("/")[2] for line in said] == [f"{UNIT}:2:", f"{UNIT}:4:", f"{UNIT}:"]
    assert refusal((), UNIT) == ""
    assert len(refusal([f"{UNIT}: {'x' * 999}\x1b[31m"] * 99, UNIT).splitlines()) == 20
    assert "\x1b" not in refusal([f"{UNIT}: \x1b[31m"], UNIT)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (
            f"{UNIT}: ConditionPathExists=/dev/nvidia0 failed.\nConditions failed.\n",
            ("ConditionPathExists=/dev/nvidia0",),
        ),
        (f"{UNIT}: AssertPathExists=!/etc failed.\nAsserts failed.\n", ("AssertPathExists=!/etc",)),
        (f"{UNIT}: ConditionPathExists=/etc succeeded.\nConditions succeeded.\n", ()),
        ("Unit x.service not found.", ()),
        ("", ()),
    ],
)
def test_the_conditions_that_failed(said, found):
    assert unmet(said.splitlines()) == found


class _Process:
    """One process as /proc shows it."""

    def __init__(self, comm: str, program: str | None) -> None:
        self.comm, self.program = comm, program

    def quick(self, path):
        return Known(value=f"{self.comm}\n".encode(), source=path)

    def link(self, path):
        found = self.program
        return Missing(source=path, why=Why.DENIED) if found is None else Known(value=found, source=path)


@pytest.mark.parametrize(
    ("comm", "program", "found"),
    [
        ("(sleep)", "/usr/lib/systemd/systemd", True),
        ("(er-api)", "/usr/lib/systemd/systemd-executor", True),
        ("(sleep)", "/usr/lib/systemd/systemd (deleted)", True),
        ("(sleep)", None, True),
        ("(sd-pam)", "/usr/bin/sd-pam", False),
        ("sleep", "/usr/bin/sleep", False),
        ("sleep", None, False),
        ("systemd", "/usr/lib/systemd/systemd", False),
        ("(much-longer)", None, False),
    ],
)
def test_a_process_that_is_still_systemds(comm, program, found):
    assert Observer(_Process(comm, program), "/sys/fs/cgroup").is_manager(7) is found
