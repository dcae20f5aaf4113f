"""A reading is a fact or the reason why there is none."""

import errno

import pytest

from cgroup_preflight.core.errors import ConfigError, HostError, UsageError
from cgroup_preflight.core.reading import Known, Missing, Why, missing, parsed, value_or
from cgroup_preflight.core.report import Remedy


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ENOENT, Why.ABSENT),
        (errno.ENOTDIR, Why.ABSENT),
        (errno.ENODEV, Why.ABSENT),
        (errno.EACCES, Why.DENIED),
        (errno.EPERM, Why.DENIED),
        (errno.EOPNOTSUPP, Why.UNSUPPORTED),
        (errno.EINVAL, Why.UNSUPPORTED),
        (errno.EIO, Why.FAILED),
        (errno.EISDIR, Why.FAILED),
        (None, Why.FAILED),
    ],
)
def test_errno_is_kept_and_classified(number, why):
    reading = missing("/sys/x", OSError(number, "no") if number else OSError())
    assert (reading.why, reading.errno, reading.source) == (why, number, "/sys/x")
    assert "/sys/x" in str(reading)
    if number:
        assert errno.errorcode[number] in str(reading)


def test_parsed_keeps_the_source_and_turns_only_value_errors_into_malformed():
    assert parsed(Known(value="7", source="f"), int) == Known(value=7, source="f")
    wrong = parsed(Known(value="x" * 1000, source="f"), int)
    assert isinstance(wrong, Missing)
    assert wrong.why is Why.MALFORMED
    assert len(wrong.detail) <= 200
    gone = Missing(source="f", why=Why.ABSENT)
    assert parsed(gone, int) is gone
    with pytest.raises(ZeroDivisionError):
        parsed(Known(value=0, source="f"), lambda number: 1 // number)


def test_value_or_takes_false_values_for_values():
    assert value_or(Known(value=0, source="f"), 5) == 0
    assert value_or(Known(value=None, source="f"), 5) is None
    assert value_or(Missing(source="f", why=Why.DENIED), 5) == 5


def test_errors_own_their_exit_status_and_remedy():
    remedy = Remedy(title="do this")
    assert (UsageError("bad", where="x:1", remedy=remedy).exit_status, HostError("bad", remedy=remedy).exit_status) == (
        2,
        3,
    )
    config = ConfigError("bad", where="x", remedy=remedy, findings=())
    assert (config.exit_status, str(config), config.remedy) == (2, "x: bad", remedy)
    assert str(UsageError("bad", remedy=remedy)) == "bad"
