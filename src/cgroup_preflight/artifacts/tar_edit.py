"""An edit as splices of a tar stream: members that do not change are not touched, not even their headers. Pure."""

from cgroup_preflight.artifacts.edit import Edit
from cgroup_preflight.artifacts.model import Splice
from cgroup_preflight.artifacts.survey import Survey
from cgroup_preflight.artifacts.tar_headers import BLOCK, new_member
from cgroup_preflight.artifacts.tar_walk import Ending

#: Records of 20 blocks, as tar and dpkg-deb fill them up (GNU tar, "Blocking").
_RECORD = 20 * BLOCK


def tar_splices(edit: Edit, survey: Survey, ending: Ending, mtime: int) -> tuple[Splice, ...]:
    """What to change where. New members come last; an archive in whole records stays one."""
    changes = [
        Splice(offset=found.member.start, remove=found.member.end - found.member.start,
               data=new_member(new.path, new.data, dotted=found.member.raw_name.startswith("./"), mtime=mtime))
        for found, new in edit.replaced
    ]  # fmt: skip
    changes += [
        Splice(offset=found.member.start, remove=found.member.end - found.member.start, data=b"")
        for found in edit.dropped
    ]
    changes.sort(key=lambda item: item.offset)
    tail = b"".join(
        [
            *(new_member(path, None, dotted=survey.dotted, mtime=mtime) for path in edit.folders),
            *(new_member(new.path, new.data, dotted=survey.dotted, mtime=mtime) for new in edit.added),
        ]
    )
    grown = sum(len(item.data) - item.remove for item in changes) + len(tail)
    return (*changes, with_end(ending, tail, grown))


def with_end(ending: Ending, tail: bytes, grown: int) -> Splice:
    """`tail` before the end marker of a stream that grows by `grown` in all, padded as it was."""
    if ending.total % _RECORD:
        return Splice(offset=ending.marker, remove=0, data=tail)
    zeros = ending.total - ending.marker
    end = ending.marker + grown
    padding = -(-(end + 2 * BLOCK) // _RECORD) * _RECORD - end
    return Splice(offset=ending.marker, remove=zeros, data=tail + b"\0" * padding)


def epoch(source_date: int | None, survey: Survey) -> int:
    """The time of new members: SOURCE_DATE_EPOCH, else that of the newest member; never the clock."""
    newest = survey.newest if 0 <= survey.newest < 1 << 33 else 0
    return newest if source_date is None else source_date
