"""Runs in the guest, as root: what IOWeight gives to two services that read one device directly, at the same time.

    python3 io_weight_inside.py none|bfq|bfq-strict|io.cost WEIGHT WEIGHT

The device is one that the kernel plays (null_blk), which takes 160 milliseconds for each read, eight at a time: less
than even an emulated CPU can ask for, so that the device is what all wait for. Prints what the kernel
has in io.weight and io.bfq.weight of both, and the bytes that each read in the same time, as JSON.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

DEVICE = "nullb0"
READERS = 8
SECONDS = 12.0
_QUEUE = Path(f"/sys/block/{DEVICE}/queue")
_ROOT = Path("/sys/fs/cgroup")
_READER = f"""
import mmap, os, random
for _ in range({READERS - 1}):
    if os.fork() == 0:
        break
handle, page = os.open("/dev/{DEVICE}", os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 65536)
while True:
    os.preadv(handle, [page], random.randrange(8000) * 65536)
"""


def prepare(way):
    """The device, with this way to weigh and no other."""
    words = ["queue_mode=2", "irqmode=2", "completion_nsec=160000000", "hw_queue_depth=8", "submit_queues=1", "gb=1"]
    subprocess.run(["modprobe", "bfq"], check=True)
    subprocess.run(["modprobe", "null_blk", "nr_devices=1", *words], check=True)
    (_QUEUE / "scheduler").write_text("bfq" if way.startswith("bfq") else "none")
    if way == "bfq-strict":
        (_QUEUE / "iosched/low_latency").write_text("0")
        (_QUEUE / "iosched/strict_guarantees").write_text("1")
    number = Path(f"/sys/block/{DEVICE}/dev").read_text().strip()
    on = way == "io.cost"
    (_ROOT / "io.cost.qos").write_text(f"{number} enable={int(on)} ctrl=user rpct=0 wpct=0 min=100 max=100")
    if on:
        model = " ".join(f"{kind}bps=2600000 {kind}seqiops=100 {kind}randiops=100" for kind in "rw")
        (_ROOT / "io.cost.model").write_text(f"{number} ctrl=user model=linear {model}")
    return number


def read_bytes(unit, number):
    for line in (_ROOT / f"system.slice/{unit}/io.stat").read_text().splitlines():
        device, *pairs = line.split()
        if device == number:
            return int(dict(pair.split("=") for pair in pairs).get("rbytes", 0))
    return 0


def main(way, *weights):
    number = prepare(way)
    units = [f"labio{place}.service" for place in range(len(weights))]
    for unit, weight in zip(units, weights, strict=True):
        words = ["-p", f"IOWeight={weight}", "-p", "IOAccounting=yes", "python3", "-c", _READER]
        subprocess.run(["systemd-run", "-q", f"--unit={unit}", *words], check=True)
    try:
        deadline = time.monotonic() + 60
        while not all(read_bytes(unit, number) > 1 << 20 for unit in units) and time.monotonic() < deadline:
            time.sleep(0.1)
        before, begin = [read_bytes(unit, number) for unit in units], time.monotonic()
        time.sleep(SECONDS)
        used = [read_bytes(unit, number) - early for unit, early in zip(units, before, strict=True)]
        files = {
            name: [(_ROOT / f"system.slice/{unit}/{name}").read_text().strip() for unit in units]
            for name in ("io.weight", "io.bfq.weight")
        }
        return {"way": way, "bytes": used, "seconds": round(time.monotonic() - begin, 1), **files,
                "scheduler": (_QUEUE / "scheduler").read_text().strip()}  # fmt: skip
    finally:
        subprocess.run(["systemctl", "stop", *units], check=False)
        (_ROOT / "io.cost.qos").write_text(f"{number} enable=0")
        (_QUEUE / "scheduler").write_text("none")


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
