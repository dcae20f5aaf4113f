"""What a run leaves behind is told, and is never a pass."""

from cgroup_preflight.core.report import Status
from cgroup_preflight.engines.run_scope import cleanup_finding


def test_nothing_left_is_a_pass_that_says_so():
    found = cleanup_finding(())
    assert (found.code, found.status, found.remedies) == ("CGP510", Status.PASS, ())


def test_what_is_left_is_named():
    left = tuple(f"/run/systemd/system/cgpf{number}.slice" for number in range(9))
    found = cleanup_finding(left)
    assert found.status is Status.FAIL
    assert found.message.startswith("9 thing(s)")
    assert left[0] in found.message
    assert found.remedies
