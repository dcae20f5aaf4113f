"""The guest's end of a relay: the output of one job, and connections of the host to services of the guest. For one thread."""

import os
import select
import socket
import time
from typing import Any

from cgroup_preflight.guest.inside.jobs import Job
from cgroup_preflight.guest.inside.streams import FRAME, Streams


class Relay:
    """Turns of one relay; `channel` is the descriptor on which the host's next request comes."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._streams = Streams()

    def turn(self, job: Job, head: dict[str, Any], body: bytes, timeout: float) -> tuple[dict[str, Any], bytes]:
        """Takes what the host sent; returns head and body for it as soon as there is something, or after `timeout`."""
        for number, host, port in head.get("open", ()):
            self._open(int(number), str(host), int(port))
        self._streams.apply(head, body)
        deadline = time.monotonic() + timeout
        while True:
            output, ended = _output(job.pipe)
            about, data = self._streams.collect()
            left = deadline - time.monotonic()
            if output or ended or self._streams.news or left <= 0 or self._wait(job, left):
                return {"output": len(output), "ended": ended, **about}, output + data

    def _open(self, number: int, host: str, port: int) -> None:
        """Connects without waiting: a service whose queue is full must not keep the other connections waiting."""
        try:
            family, kind, _, _, peer = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            line = socket.socket(family, kind)
        except OSError:
            self._streams.refuse(number)
        else:
            self._streams.add(number, line, peer)

    def _wait(self, job: Job, seconds: float) -> bool:
        """Waits until something can be read or written; whether the host wants to speak."""
        sources: list[int | socket.socket] = [self._channel, job.pipe, *self._streams.readers()]
        readable, writable, _ = select.select(sources, self._streams.writers(), [], seconds)
        if writable:
            self._streams.flush()
        return self._channel in readable


def _output(pipe: int) -> tuple[bytes, bool]:
    """What a job printed since the last call, and whether that was all."""
    if not select.select([pipe], [], [], 0)[0]:
        return b"", False
    data = os.read(pipe, FRAME)
    return data, not data
