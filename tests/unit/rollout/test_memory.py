"""Which memory limits are refused, with which numbers."""

import pytest

from cgroup_preflight.rollout.memory import Usage, is_ready, refusals, usage_of

M = 1 << 20
USAGE = Usage(current=300 * M, anon=180 * M, slab_unreclaimable=10 * M, shmem=0)


def found(target, *, old=512 * M, usage=USAGE, go=None):
    return refusals(
        "api.slice", {"MemoryMax": old}, {"MemoryMax": target}, usage=usage, margin=0.05, go_limits=go or {}
    )


def test_a_target_below_what_cannot_be_reclaimed_is_refused_with_the_numbers():
    (refusal,) = found(190 * M)
    assert "180M anonymous" in refusal.message
    assert "10M kernel" in refusal.message
    assert found(200 * M) == ()


def test_raising_is_never_refused():
    assert found(100 * M, old=90 * M) == ()
    assert found(None) == ()
    assert found(100 * M, old=100 * M) == ()
    assert len(found(100 * M, old=None)) == 1


def test_a_target_below_gomemlimit_is_refused():
    (refusal,) = found(256 * M, go={"user-api": 300 * M})
    assert "GOMEMLIMIT=300M of user-api" in refusal.message
    assert found(256 * M, go={"user-api": 200 * M}) == ()
    assert len(found(256 * M, usage=None, go={"user-api": 300 * M})) == 1


def test_memory_max_waits_for_the_usage():
    assert is_ready(95, 100)
    assert not is_ready(96, 100)
    assert is_ready(1 << 40, None)


def test_memory_stat_is_read_strictly():
    usage = usage_of(5, "anon 1\nfile 2\nslab_unreclaimable 3\nshmem 4\nodd line\n")
    assert (usage.current, usage.anon, usage.slab_unreclaimable, usage.shmem) == (5, 1, 3, 4)
    with pytest.raises(ValueError, match="no anon"):
        usage_of(5, "file 2\n")
