"""The end of services, with a manager and a kernel that are played; the real ones are in the lab."""

from types import SimpleNamespace

from cgroup_preflight.smoke.services import Run, Services
from tests.unit.smoke.fabricate import plan


def test_the_last_look_at_a_unit_is_a_whole_one():
    """A kill for want of memory becomes the result when the manager hears of it, which may be in the same state still."""
    stopping = {"ActiveState": "deactivating", "SubState": "stop-post", "Job": "0"}
    (service,) = plan().services
    run = Run(service=service, expected=(), show={**stopping, "Result": "signal"})
    manager = SimpleNamespace(
        stop_units=lambda _units: None,
        show_changed=lambda known: {unit: {**stopping, "Result": "oom-kill"} for unit in known if not known[unit]},
    )
    observer = SimpleNamespace(invoked=lambda _known: {})
    Services(manager, observer, {}, lambda _text: None)._stop([run])
    assert run.show["Result"] == "oom-kill"
