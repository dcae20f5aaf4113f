"""What runs below one cgroup share: the turn, the claims, the record."""

import os

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.engines.cgroup_shared import Shared
from tests.unit.engines.test_cgroup_tree import QuickClock


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


def shared(base, record="enabled"):
    return Shared(QuickClock(), str(base), str(base.parent / record))


def test_only_one_run_has_its_turn_and_a_turn_that_never_ends_is_named(base):
    one, two = shared(base), shared(base)
    with one.turn(), pytest.raises(HostError, match="another run changes this cgroup for too long"), two.turn():
        pass
    with two.turn():
        pass


def test_a_turn_ends_although_something_failed_in_it(base):
    with pytest.raises(ZeroDivisionError), shared(base).turn():
        raise ZeroDivisionError
    with shared(base).turn():
        pass


def test_a_cgroup_that_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(HostError, match="cannot open the cgroup: No such file"), shared(tmp_path / "gone").turn():
        pass


def test_a_claim_lasts_until_it_is_released(base):
    run = base / "run.slice"
    run.mkdir()
    one, two = shared(base), shared(base)
    assert not two.is_claimed(str(run))
    one.claim(str(run))
    assert two.is_claimed(str(run))
    one.release()
    one.release()
    assert not two.is_claimed(str(run))
    assert not two.is_claimed(str(base / "gone"))


def test_a_claim_is_not_inherited_by_the_programs_of_a_run(base):
    one = shared(base)
    one.claim(str(base))
    assert not os.get_inheritable(one._claim)
    one.release()


def test_the_record_adds_up_over_runs_and_is_of_one_cgroup(base):
    one, two = shared(base), shared(base)
    assert one.noted() == ()
    one.note(["memory"])
    two.note(["cpu", "memory"])
    assert one.noted() == ("cpu", "memory")
    other = base.parent / "other"
    other.mkdir()
    assert shared(other).noted() == ()
    two.forget()
    two.forget()
    assert one.noted() == ()


@pytest.mark.parametrize("text", ["", "\n", "some boot 1\nmemory"])
def test_a_record_that_says_nothing_of_this_cgroup_does_not_count(base, text):
    (base.parent / "enabled").write_text(text)
    assert shared(base).noted() == ()


def test_a_record_that_cannot_be_removed_does_not_matter(base):
    (base.parent / "enabled").mkdir()
    shared(base).forget()


def test_a_run_of_which_nothing_is_known_counts_as_alive(base):
    """Whatever keeps its folder from being opened: a run without a claim is killed."""
    (base / "run.slice").write_text("not a folder")
    assert shared(base).is_claimed(str(base / "run.slice"))
