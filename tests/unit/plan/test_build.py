"""Config to plan: nested slices, unit names, paths, and the scope of a run of our own."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config.model import ReadyKind
from cgroup_preflight.plan.build import build_plan, expand, only, scoped
from tests.unit.core.making import config_of

TEXT = """\
[slices.worker]
[slices.api-v1-batch]
MemoryMax = "1G"
[slices.api]
CPUWeight = 80
[services.b]
binary = "dist/b"
slice = "api-v1-batch"
MemoryMax = "64M"
[services.a]
binary = "/opt/a"
slice = "worker"
[services.free]
binary = "../free"
"""


@given(st.lists(st.text(alphabet="ab1", min_size=1, max_size=3), min_size=1, max_size=5))
def test_dashes_nest(parts):
    """systemd.slice(5): a-b.slice lies in a.slice."""
    found = expand("-".join(parts))
    assert len(found) == len(parts)
    assert found[-1] == "-".join(parts)
    for outer, inner in pairwise(found):
        assert inner.startswith(f"{outer}-")


def test_implied_slices_have_no_limits_and_parents_come_first():
    plan = build_plan(config_of(TEXT))
    assert [item.unit for item in plan.slices] == ["api.slice", "api-v1.slice", "api-v1-batch.slice", "worker.slice"]
    by_label = {item.label: item.settings for item in plan.slices}
    assert by_label["api-v1"] == by_label["worker"] == ()
    assert [item.property for item in by_label["api-v1-batch"]] == ["MemoryMax"]


def test_services_by_name_with_the_slices_above_them():
    plan = build_plan(config_of(TEXT))
    assert [item.label for item in plan.services] == ["a", "b", "free"]
    a, b, free = plan.services
    assert (a.unit, a.slices) == ("a.service", ("worker.slice",))
    assert b.slices == ("api.slice", "api-v1.slice", "api-v1-batch.slice")
    assert free.slices == ()
    assert (plan.project, plan.source) == ("shop", "c.toml")


def test_paths_of_programs_are_absolute():
    plan = build_plan(config_of(TEXT, folder="/home/me/shop"))
    assert [item.binary for item in plan.services] == ["/opt/a", "/home/me/shop/dist/b", "/home/me/shop/../free"]


def test_a_scope_changes_names_only():
    config = config_of(TEXT)
    plain = build_plan(config)
    run = scoped(plain, "cgpf0123456789ab")
    assert run.slices[0].unit == "cgpf0123456789ab.slice"
    assert run.slices[0].settings == ()
    assert [item.unit for item in run.slices[1:]] == [f"cgpf0123456789ab-{item.unit}" for item in plain.slices]
    assert [item.settings for item in run.slices[1:]] == [item.settings for item in plain.slices]
    for ours, theirs in zip(run.services, plain.services, strict=True):
        assert ours.unit == f"cgpf0123456789ab-{theirs.unit}"
        assert ours.slices == ("cgpf0123456789ab.slice", *(f"cgpf0123456789ab-{name}" for name in theirs.slices))
        assert (ours.settings, ours.binary, ours.label) == (theirs.settings, theirs.binary, theirs.label)


def test_a_plan_of_some_services_keeps_all_slices():
    plan = build_plan(config_of(TEXT))
    assert only(plan, ()) == plan
    some = only(plan, ("b", "free"))
    assert ([item.label for item in some.services], some.slices) == (["b", "free"], plan.slices)


def test_all_settings_of_a_config_and_of_its_plan():
    config = config_of(TEXT)
    assert [item.text for item in config.settings] == ["80", "1G", "64M"]
    assert sorted(item.text for item in build_plan(config).settings) == ["1G", "64M", "80"]


def test_a_plan_of_nothing():
    plan = build_plan(config_of(""))
    assert plan.slices == plan.services == ()


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ("", ReadyKind.STARTED),
        ("Type = 'simple'", ReadyKind.STARTED),
        ("Type = 'exec'", ReadyKind.STARTED),
        ("Type = 'notify'", ReadyKind.NOTIFY),
        ("Type = 'forking'", ReadyKind.NOTIFY),
        ("Type = 'oneshot'", ReadyKind.EXIT),
        ("Type = 'notify'\nsmoke.ready = 'log:up'", ReadyKind.LOG),
    ],
)
def test_the_type_says_when_a_service_is_ready(lines, kind):
    (service,) = build_plan(config_of(f"[services.a]\nbinary = 'x'\n{lines}\n")).services
    assert service.smoke.ready.kind is kind
