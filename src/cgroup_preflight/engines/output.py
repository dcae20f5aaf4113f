"""The file that a service writes its output to: however much that is, little of it stays on the disk.

What was read is freed in place (fallocate(2), FALLOC_FL_PUNCH_HOLE), so the service goes on where it is. Where a file
system cannot do that, the file keeps what was written.
"""

from cgroup_preflight.core.reading import Known
from cgroup_preflight.core.records import TYPE_CHECKING

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Files

#: Bytes at the end that stay for the report, and how much must be free to give back before it is.
_KEPT, _PIECE = 1 << 20, 4 << 20
#: Bytes that may wait to be searched for a ready line: with more, the service waits.
UNREAD_MAX = 8 << 20
_BLOCK = 4096


class Output:
    """One file of output; `freed` is how much of its beginning was given back, in bytes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.freed = 0

    def free(self, files: "Files", read: int | None) -> int:
        """Gives back the first `read` bytes (None: nobody reads them); how many are not read yet."""
        status = files.status(self._path)
        size = status.value.size if isinstance(status, Known) else 0
        read = size if read is None else read
        self.free_before(files, min(read, size - _KEPT))
        return max(size - read, 0)

    def free_before(self, files: "Files", offset: int) -> None:
        """Gives back the blocks before `offset`, once there are enough of them."""
        end = offset // _BLOCK * _BLOCK
        if end - self.freed >= _PIECE:
            files.free(self._path, self.freed, end)
            self.freed = end
