"""What a command is doing: lines on a terminal while it works, and the table of `--timings` at the end."""

import argparse
import time
from collections.abc import Callable, Sequence

from cgroup_preflight.cli import options
from cgroup_preflight.core.report import ServiceResult


class Progress:
    """Notes when each step begins, and shows it with `show` unless the caller wants no lines (`quiet`)."""

    def __init__(
        self, *, quiet: bool, show: Callable[[str], None] = options.progress, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.quiet = quiet
        self._show = show
        self._now = now
        self._steps = [("reading the config", now())]

    def __call__(self, text: str, show: Callable[[str], None] | None = None) -> None:
        """A step begins; `show` prints it in another way."""
        self._steps.append((text, self._now()))
        if not self.quiet:
            (show or self._show)(text)

    def table(self, services: Sequence[ServiceResult] = ()) -> str:
        """Each step with its seconds, the longest of all services, and the total, for a terminal."""
        from cgroup_preflight.report.columns import aligned
        from cgroup_preflight.report.escape import plain

        end = self._now()
        ends = [*(began for _, began in self._steps[1:]), end]
        rows = [(plain(text), end - began) for (text, began), end in zip(self._steps, ends, strict=True)]
        rows += [(f"  service {plain(item.name)}", item.duration_seconds) for item in services]
        rows.append(("all", end - self._steps[0][1]))
        table = aligned([("step", "seconds"), *((text, f"{took:7.2f}") for text, took in rows)])
        return "\n" + "".join(f"{line}\n" for line in table)


def add_timings(to: argparse.ArgumentParser) -> None:
    """`--timings`."""
    to.add_argument("--timings", action="store_true", help="print to stderr how long each step took")
