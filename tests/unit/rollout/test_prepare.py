"""From the config and a host to the stages, and what speaks against them."""

import pytest

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Status
from cgroup_preflight.host.cgroup import Effective
from cgroup_preflight.rollout.limits import PERCENT
from cgroup_preflight.rollout.prepare import prepare, targets
from tests.unit.core.making import config_of, mistakes_of
from tests.unit.engines.machine import NUMBERS
from tests.unit.rollout.played import ETC, M, PlayedClock, PlayedManager

CONFIG = """
[slices.api]
CPUQuota = "100%"
MemoryMax = "256M"
AllowedCPUs = "0"
[services.user-api]
binary = "dist/user-api"
slice = "api"
Environment = { GOMEMLIMIT = "200MiB" }
"""
ROLLOUT = '[rollout]\nsteps = ["50%", "100%"]\n'


@pytest.fixture
def manager():
    return PlayedManager(
        {"api.slice": {"CPUQuota": 200 * PERCENT, "MemoryMax": 512 * M, "MemoryHigh": None}}, PlayedClock()
    )


def prepared(manager, text=CONFIG + ROLLOUT):
    return prepare(config_of(text), manager, NUMBERS, cpus=4)


def failed(found):
    return [(item.code, item.message) for item in found.findings if item.status is Status.FAIL]


def test_the_plans_own_slices_are_the_targets(manager):
    found = prepared(manager)
    assert not found.refused
    assert [stage.values["api.slice"]["CPUQuota"] // PERCENT for stage in found.stages if not stage.squeeze] == [
        150,
        100,
    ]
    assert found.units[0].new == {"CPUQuota": 100 * PERCENT, "MemoryMax": 256 * M, "MemoryHigh": None}
    assert "CPUQuota: 200% -> 150% -> 100%" in [item.message for item in found.findings]


def test_targets_of_the_rollout_win_over_the_plan():
    assert targets(config_of(CONFIG + ROLLOUT + "[rollout.slices.web]\nTasksMax = 50\n"), NUMBERS) == {
        "web.slice": {"TasksMax": 50}
    }


def test_nothing_to_change_has_no_stage(manager):
    found = prepared(manager, CONFIG.replace("100%", "200%").replace("256M", "512M") + ROLLOUT)
    assert found.stages == ()
    assert found.findings[-1].code == "CGP800"


@pytest.mark.parametrize(
    ("control", "target"), [("api", "api-web"), ("api-web", "api"), ("api-web-x", "api"), ("api", "api-web-x")]
)
def test_a_slice_in_or_around_one_that_changes_is_nothing_to_compare_with(control, target):
    """It waits as much as that one."""
    text = f'[rollout]\ncontrol = ["{control}"]\n[rollout.slices.{target}]\nTasksMax = 50\n'
    with pytest.raises(UsageError, match=f"control names {control}"):
        targets(config_of(text), NUMBERS)
    assert targets(config_of(text.replace(f'"{control}"', '"apiary"')), NUMBERS)


def test_a_control_slice_that_does_not_run_is_said(manager):
    text = CONFIG + ROLLOUT + 'control = ["other"]\n'
    warned = [item for item in prepared(manager, text).findings if item.subject == "other.slice"]
    assert [(item.status, item.code) for item in warned] == [(Status.WARN, "CGP802")]
    manager.base["other.slice"] = manager.memory["other.slice"] = {}
    assert not [item for item in prepared(manager, text).findings if item.subject == "other.slice"]
    manager.shown["other.slice"] = {"active": "inactive"}
    assert [item for item in prepared(manager, text).findings if item.subject == "other.slice"]


def test_a_slice_named_twice_in_order_is_refused():
    """Its values would go back to the first step after the last one."""
    text = '[rollout]\norder = ["api", "api"]\n[rollout.slices.api]\nTasksMax = 50\n'
    assert "named twice" in mistakes_of(text)[0].message
    assert targets(config_of(text.replace('"api", "api"', '"api"')), NUMBERS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CONFIG + ROLLOUT + '[rollout.slices.web]\nAllowedCPUs = "0"\n', "cannot change AllowedCPUs"),
        (CONFIG + ROLLOUT + 'order = ["web"]\n', "order names web"),
        (CONFIG.replace('CPUQuota = "100%"\nMemoryMax = "256M"\n', "") + ROLLOUT, "no limit"),
    ],
)
def test_what_cannot_be_a_target_is_refused(manager, text, words):
    with pytest.raises(UsageError, match=words):
        prepared(manager, text)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({"active": "inactive"}, "it is inactive"),
        ({"cgroup": ""}, "it is active"),
        ({"transient": True}, "transient"),
        ({"load": "not-found"}, "not-found"),
    ],
)
def test_a_unit_that_does_not_run_is_refused(manager, shown, words):
    manager.shown["api.slice"] = shown
    found = prepared(manager)
    assert found.refused
    assert words in failed(found)[0][1]
    assert failed(found)[0][0] == "CGP802"
    assert found.stages == ()


def test_an_unknown_unit_is_refused(manager):
    found = prepared(manager, CONFIG + ROLLOUT + "[rollout.slices.web]\nTasksMax = 50\n")
    assert failed(found)[0][0] == "CGP802"


def test_memory_in_use_and_gomemlimit_are_refused_with_numbers(manager):
    manager.used["api.slice"] = 250 * M
    assert failed(prepared(manager))[0][0] == "CGP803"
    assert "250M anonymous" in failed(prepared(manager))[0][1]
    manager.used["api.slice"] = 10 * M
    assert failed(prepared(manager)) == []
    assert "GOMEMLIMIT=200M of user-api" in failed(prepared(manager, CONFIG.replace("256M", "190M") + ROLLOUT))[0][1]


def test_a_drop_in_that_would_win_is_named(manager):
    path = "/etc/systemd/system/api.slice.d/override.conf"
    manager.shown["api.slice"] = {"drop_ins": (path,)}
    manager.files[path] = "[Slice]\nCPUQuota=300%\n"
    ((code, message),) = failed(prepared(manager))
    assert code == "CGP804"
    assert path in message
    # One for another property, or one that is read before, does not matter.
    manager.files[path] = "[Slice]\nCPUWeight=300\n"
    assert failed(prepared(manager)) == []


def test_what_was_there_is_kept(manager):
    path = f"{ETC}/api.slice.d/50-CPUQuota.conf"
    manager.files[path] = "[Slice]\nCPUQuota=200%\n"
    (unit,) = prepared(manager).units
    assert unit.files[path] == "[Slice]\nCPUQuota=200%\n"
    assert sum(text is not None for text in unit.files.values()) == 1


def test_a_kernel_without_pressure_is_a_warning(manager):
    assert not [item for item in prepared(manager).findings if item.status is Status.WARN]
    manager.attribute_missing("cpu.pressure")
    (found,) = [item for item in prepared(manager).findings if item.status is Status.WARN]
    assert "the judge does not know how long its tasks wait" in found.message


def test_a_limit_above_is_a_warning(manager):
    manager.shown["api.slice"] = {"cgroup": "/a.slice/api.slice"}
    manager.above = Effective(
        memory_bytes=128 * M, memory_at="/a.slice", cpus=0.5, cpus_at="/a.slice", tasks=None, tasks_at=""
    )
    found = [item for item in prepared(manager).findings if item.code == "CGP808"]
    assert [item.status for item in found] == [Status.WARN] * 2
    assert "a.slice allows" in found[0].message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('steps = ["50%"]', "end with 100%"),
        ('steps = ["50%", "25%", "100%"]', "ascend"),
        ('steps = ["0%", "100%"]', "changes nothing"),
        ('interval = "0s"', "too short"),
        ("samples_min = 0", "not a number that is allowed"),
        ('pressure_factor = "50%"', "not a factor"),
        ('order = ["api"]\ncontrol = ["api"]', "also in order"),
        ('[rollout.hook]\nbefore = [""]', "cannot be empty"),
        ('[rollout.hook]\nbefore = "x"', "the value is text"),
        ('[rollout.prometheus]\nqueries = ["up < 1"]', "url is missing"),
        ('[rollout.prometheus]\nurl = "http://h"\nqueries = ["up"]', "has no bound"),
        ('[rollout.prometheus]\nurl = "http://h"\nqueries = ["up < 1e999"]', "has no bound"),
        ('[rollout.prometheus]\nurl = "ftp://h"', "not the address"),
        ("[rollout.slices.system-x]\nTasksMax = 5", "belongs to systemd"),
        ("[rollout.slices.api]\nOdd = 5", "not a key"),
        ("odd = 5", "not a key"),
        ('restore_after = "30s"\n[rollout.hook]\nback = ["x"]', "more than half of restore_after"),
    ],
)
def test_mistakes_of_the_config_are_named(line, words):
    found = mistakes_of(f"[rollout]\n{line}\n")
    assert any(words in item.message for item in found), [item.message for item in found]


def test_without_a_command_the_time_of_commands_does_not_matter():
    assert not mistakes_of('[rollout]\nrestore_after = "10s"\n')


def test_a_rollout_that_is_no_table_is_a_mistake():
    assert mistakes_of("rollout = 5\n")
    assert mistakes_of("[rollout]\nslices = 5\n")
    assert mistakes_of("[rollout]\nhook = 5\n")
