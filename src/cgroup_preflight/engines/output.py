"""The file that a service writes its output to: however much that is, little of it stays on the disk.

What was read is freed in place (fallocate(2), FALLOC_FL_PUNCH_HOLE), so the service goes on where it is. Where a file
system cannot do that, the file keeps what was written.
"""

import os

#: Bytes at the end that stay for the report, and how much must be free to give back before it is.
_KEPT, _PIECE = 1 << 20, 4 << 20
#: Bytes that may wait to be searched for a ready line: with more, the service waits.
UNREAD_MAX = 8 << 20
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_BLOCK = 4096


class Output:
    """One file of output; `freed` is how much of its beginning was given back, in bytes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.freed = 0

    def free(self, reader: int | None) -> int:
        """Gives back what a `reader` (a descriptor, None: nobody reads) has read; the bytes that it has not read yet."""
        try:
            size = os.stat(self._path).st_size
        except OSError:
            return 0
        read = size if reader is None else os.lseek(reader, 0, os.SEEK_CUR)
        self.free_before(min(read, size - _KEPT))
        return size - read

    def free_before(self, offset: int) -> None:
        """Gives back the blocks before `offset`, once there are enough of them."""
        end = offset // _BLOCK * _BLOCK
        if end - self.freed >= _PIECE:
            self._punch(end)

    def _punch(self, end: int) -> None:
        import ctypes  # only for a service that writes a lot

        call = ctypes.CDLL(None, use_errno=True).fallocate
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        handle = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            call(handle, _KEEP_SIZE | _PUNCH_HOLE, self.freed, end - self.freed)
        finally:
            os.close(handle)
        self.freed = end
