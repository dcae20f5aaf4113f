"""Load for the lab, started inside the guest: closed loop over kept connections; prints latencies as JSON.

Standard library only. Call: http_load.py HOST PORT PATH CONNECTIONS SECONDS.
"""

import json
import selectors
import socket
import sys
import time


def main() -> None:
    host, port, path, connections, seconds = (
        sys.argv[1],
        int(sys.argv[2]),
        sys.argv[3],
        int(sys.argv[4]),
        float(sys.argv[5]),
    )
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    selector = selectors.DefaultSelector()
    sent: dict[int, float] = {}
    rest: dict[int, bytes] = {}
    latencies: list[float] = []
    for _ in range(connections):
        link = socket.create_connection((host, port))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(link, selectors.EVENT_READ)
        sent[link.fileno()], rest[link.fileno()] = time.monotonic(), b""
        link.sendall(request)
    started = time.monotonic()
    while (now := time.monotonic()) - started < seconds:
        for key, _ in selector.select(1):
            link = key.fileobj
            assert isinstance(link, socket.socket)
            number = link.fileno()
            rest[number] += link.recv(1 << 16)
            if not whole(rest[number]):
                continue
            now = time.monotonic()
            latencies.append(now - sent[number])
            sent[number], rest[number] = now, b""
            link.sendall(request)
    latencies.sort()
    at = {
        name: round(1000 * latencies[int(len(latencies) * share)], 2)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
    }
    print(
        json.dumps(
            {
                "requests": len(latencies),
                "seconds": round(now - started, 2),
                "worst_ms": round(1000 * latencies[-1], 2),
                **{f"{name}_ms": value for name, value in at.items()},
            }
        )
    )


def whole(data: bytes) -> bool:
    """Whether an answer has arrived to its end; with a length, or in pieces that end with an empty one."""
    head, mark, body = data.partition(b"\r\n\r\n")
    if not mark:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return body.endswith(b"0\r\n\r\n")


main()
