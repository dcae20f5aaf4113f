"""Exit statuses of the command line: one meaning each, stable across releases."""

import enum


@enum.unique
class ExitStatus(enum.IntEnum):
    """What the process exits with; the table in README.md is compared with this."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    UNVERIFIED = 3
    DEFECT = 4
    NOT_DELIVERED = 5
    INTERRUPTED = 130
    TERMINATED = 143
