"""What the manager's timer does: unit files with plain commands, and drop-ins that win or not."""

import shlex

from cgroup_preflight.rollout.base import DeadMan, UnitPlan
from cgroup_preflight.rollout.dead_man import commands, restoring, rollout_of, service_text, timer_text
from cgroup_preflight.rollout.drop_ins import HOLD, control_names, hold_text, later, sets, sets_to, winner
from cgroup_preflight.rollout.limits import PERCENT

M = 1 << 20
UNIT = UnitPlan(
    unit="api.slice", cgroup="/api.slice",
    old={"CPUQuota": None, "MemoryMax": 512 * M, "MemoryHigh": None}, new={"CPUQuota": 50 * PERCENT, "MemoryMax": 256 * M, "MemoryHigh": None},
)  # fmt: skip
PROGRAMS = {name: f"/usr/bin/{name}" for name in ("systemctl", "rm", "cp", "touch", "sync")}


def plan(**changed) -> DeadMan:
    fields = {
        "rollout": "20260101-000000-ab12", "seconds": 60.0, "changes": restoring((UNIT,)), "copies": {"/s/1": "/etc/x.conf"},
        "removed": ("/run/y.conf",), "mark": "/s/a b%.restored",
    }  # fmt: skip
    return DeadMan(**fields | changed)


def test_every_old_value_comes_back_and_no_setting_as_none():
    assert {name: value for call in restoring((UNIT,)) for name, value in call.values.items()} == UNIT.old
    assert [name for call in restoring((UNIT,), ("api.slice CPUQuota",)) for name in call.values].count("CPUQuota") == 0


def test_the_commands_set_first_then_restore_files_then_reload_and_mark():
    found = commands(plan(), PROGRAMS, ("--user",))
    assert found[0][:7] == ("-", "/usr/bin/systemctl", "--user", "set-property", "--runtime", "--", "api.slice")
    assert {"CPUQuota=", f"MemoryMax={512 * M}"} <= {word for argv in found for word in argv}
    assert [argv[0].rpartition("/")[2] for argv in found[-5:]] == ["rm", "cp", "sync", "systemctl", "touch"]
    assert found[-2][-1] == "daemon-reload"


def test_what_fails_first_does_not_stop_the_others_and_what_fails_in_the_end_is_tried_again_without_a_mark():
    found = commands(plan(), PROGRAMS, ())
    calls = len(restoring((UNIT,)))
    assert [argv[0] == "-" for argv in found] == [True] * (calls + 1) + [False] * (calls + 5)
    assert found[:calls] == tuple(("-", *argv) for argv in found[calls + 1 : 2 * calls + 1])
    text = service_text(plan(), found)
    assert "Restart=on-failure" in text


def test_nothing_is_expanded():
    text = service_text(plan(), commands(plan(), PROGRAMS, ()))
    starts = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert shlex.split(starts[-1].partition("=")[2]) == ["/usr/bin/touch", "--", "/s/a b%%.restored"]
    assert starts[0].startswith("ExecStart=-/usr/bin/systemctl")


def test_the_timer_belongs_to_one_rollout():
    text = timer_text(plan())
    assert "OnActiveSec=60s" in text
    # It is started again every few seconds; systemd allows five starts in 10s.
    assert "StartLimitIntervalSec=0" in text.partition("[Timer]")[0]
    (description,) = [line.partition("=")[2] for line in text.splitlines() if line.startswith("Description=")]
    assert rollout_of(description) == "20260101-000000-ab12"
    assert rollout_of("another timer") == ""


def test_which_drop_in_wins():
    texts = {"/etc/systemd/system.control/a.slice.d/50-CPUQuota.conf": "[Slice]\nCPUQuota=10%\n",
             "/etc/systemd/system/a.slice.d/override.conf": "[Slice]\n# CPUQuota=1%\n CPUQuota = 20%\n"}  # fmt: skip
    assert winner(texts, "CPUQuota").endswith("override.conf")
    assert later(tuple(texts), "CPUQuota", texts) == (tuple(texts)[1],)
    assert winner(texts, "MemoryMax") == ""
    assert later(tuple(texts), "MemoryMax", texts) == ()
    assert sets("MemoryLimit=1G", "MemoryMax")
    assert not sets("#MemoryMax=1G", "MemoryMax")


def test_which_value_a_drop_in_of_set_property_has():
    assert sets_to("# x\n[Slice]\nCPUQuota=150%\n", "CPUQuota", 150 * PERCENT)
    assert sets_to("[Slice]\nCPUQuota=150.00%\n", "CPUQuota", 150 * PERCENT)
    assert not sets_to("[Slice]\nCPUQuota=150.50%\n", "CPUQuota", 150 * PERCENT)
    assert sets_to("[Slice]\nMemoryMax=infinity\n", "MemoryMax", None)
    assert not sets_to("", "MemoryMax", 5)


def test_earlier_files_and_our_own_do_not_win():
    texts = {
        "/usr/lib/systemd/system/a.slice.d/10-base.conf": "CPUQuota=1%",
        f"/run/systemd/system/a.slice.d/{HOLD}": "CPUQuota=2%",
    }
    assert later(tuple(texts), "CPUQuota", texts) == ()


def test_our_own_drop_in_is_read_after_those_of_set_property():
    assert all(name < HOLD for name in control_names(("CPUQuota", "MemoryMax", "TasksMax")))
    assert "50-MemoryMaxScale.conf" in control_names(("MemoryMax",))
    text = hold_text("a.slice", {"CPUQuota": None, "MemoryMax": 5})
    assert text.splitlines()[-3:] == ["[Slice]", "CPUQuota=", "MemoryMax=5"]
