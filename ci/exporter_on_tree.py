"""Run the exporter on a tree of files instead of the host's cgroups: `python -m ci.exporter_on_tree FOLDER`.

Prints its address. Everything is that of the command but the search for the mount, and the kernel's reports: to a plain file
system each write to a counter is one, and a kernel writes its counters without any.
"""

import asyncio
import sys

from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.metrics.server import Server, serve
from cgroup_preflight.metrics.service import DEADLINE_SECONDS, Service
from cgroup_preflight.metrics.setup import readings_of
from cgroup_preflight.metrics.tree import Scope

#: So long that only scrapes take snapshots, and a scrape has all of the cost.
_INTERVAL_SECONDS = 3600.0


async def _run(folder: str) -> None:
    readings, _ = readings_of(LiveFs(), folder, Scope(), follow=False)
    service = Service(readings, _INTERVAL_SECONDS)
    running = asyncio.create_task(service.run(print))
    server = Server(service, DEADLINE_SECONDS)
    await serve(server, "127.0.0.1", 0, lambda address: print(address, flush=True), asyncio.Event())
    await running


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1]))
