"""When the files of another host were read, on its own clock: it is asked before and after them in the same question.

An answer can come seconds late; this machine's clock would count those as time of the host. Both the shell and an SFTP
server answer in the order of the questions, so that everything between the two was read between them.
"""

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Reading
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.procfs import UPTIME_STEP, parse_uptime

#: One file with two spellings, as each path is asked once. Over SFTP, a path of the kernel takes fewer steps than others
#: (`sftp_jobs.read`): the first one is such a path, and the second one is not, so that no file is read behind it.
BEFORE, AFTER = "/proc/uptime", "//proc/uptime"
_REMEDY = Remedy(title="look at the host, or run the command on the host itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Nanoseconds since the host was started: what was read is between `began_ns` and `ended_ns`."""

    began_ns: int
    ended_ns: int

    @property
    def middle_ns(self) -> int:
        """The moment that is the least wrong."""
        return (self.began_ns + self.ended_ns) // 2

    @property
    def slack_ns(self) -> int:
        """How wrong `middle_ns` is at most."""
        return (self.ended_ns - self.began_ns + 1) // 2


def span_of(before: Reading[bytes], after: Reading[bytes]) -> Span:
    """The span between the answers to BEFORE and AFTER. Raises HostError for what no clock says."""
    began, ended = (_moment(each) for each in (before, after))
    if ended < began:
        raise HostError("its clock goes back", where=BEFORE, remedy=_REMEDY)
    # The file has the last step of the clock that is over.
    return Span(began_ns=began, ended_ns=ended + UPTIME_STEP)


def _moment(reading: Reading[bytes]) -> int:
    try:
        if isinstance(reading, Known):
            return parse_uptime(reading.value.decode("ascii"))
    except ValueError:
        pass
    why = str(reading) if isinstance(reading, Missing) else "an odd text"
    raise HostError(f"its clock cannot be read: {why}", where=BEFORE, remedy=_REMEDY)
