"""Damaged binaries by the thousand: only the reader's own error, and never slow."""

import gc
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ci.toolchains import TESTED

from cgroup_preflight.golang.binary_file import BytesImage
from cgroup_preflight.golang.blob import MAGIC
from cgroup_preflight.golang.buildinfo import BinaryError, read_image
from tests.golang.conftest import Sample, sample_of_go_1_17

Compile = Callable[[str, Sample, Path], Path]

MUTANTS = 20_000
#: At most the CPU time of so many yardsticks for one mutant: that is as fast or slow as the machine is at this moment.
LIMIT = 100
TRIES = 5
SEED = 20_251
#: No debug data, which the reader never looks at: smaller files, more mutants a second.
SMALL = ("-ldflags=-s -w",)
SPECIMENS: dict[str, Sample] = {
    "elf-64": Sample(flags=SMALL),
    "elf-pie": Sample(flags=[*SMALL, "-buildmode=pie"]),
    "elf-32": Sample(flags=SMALL, environment={"GOARCH": "386"}),
    "elf-big-endian": Sample(flags=SMALL, environment={"GOARCH": "s390x"}),
    "elf-32-big-endian": Sample(flags=SMALL, environment={"GOARCH": "mips"}),
    "pe": Sample(flags=SMALL, environment={"GOOS": "windows"}),
    "macho": Sample(flags=SMALL, environment={"GOOS": "darwin", "GOARCH": "arm64"}),
}
#: The layout of Go up to 1.17, of which Go's own tests keep a program.
POINTERS = "elf-pointers"
NUMBERS = [*(0, 1, 0x7F, 0x80, 0xFF), *((1 << bits) - 1 for bits in (15, 16, 31, 32, 64)), 1 << 20, 1 << 40]


def hot_spots(data: bytes) -> list[range]:
    """Where damage matters: file headers, the section table at the end, and the blob (all copies)."""
    spots = [range(4, 1024), range(len(data) - 4096, len(data))]
    if data.startswith(b"\x7fELF"):
        field = data[40:48] if data[4] == 2 else data[32:36]
        table = int.from_bytes(field, "little" if data[5] == 1 else "big")
        spots.append(range(table, table + 2048))
    at = data.find(MAGIC)
    while at >= 0:
        spots += [range(at, at + 64), range(at, at + 700)]
        at = data.find(MAGIC, at + 1)
    return spots


def mutants(data: bytes, count: int, rng: random.Random) -> Iterator[bytes]:
    spots = hot_spots(data)
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
            at = rng.choice(rng.choice(spots))
            if rng.random() < 0.5:
                width = rng.choice([2, 4, 8])
                number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
                mutant[at : at + width] = number.to_bytes(width, rng.choice(["little", "big"]))
            else:
                mutant[at] = rng.randrange(256)
        if rng.random() < 0.1:
            spot = rng.choice(spots)
            del mutant[rng.choice([rng.choice(spot), rng.randrange(len(data))]) :]
        yield bytes(mutant)


def took(data: bytes) -> tuple[float, bool]:
    """Seconds of CPU time that reading takes, and whether it was read; raises all but the reader's own error."""
    start = time.process_time()
    try:
        read_image(BytesImage(data=data))
        found = True
    except BinaryError:
        found = False
    return time.process_time() - start, found


def yardstick() -> float:
    """Seconds of CPU time for work of a known size: a thousand short lines are split and their numbers read."""
    text = b"dep\t1\t2\n" * 1000
    start = time.process_time()
    for line in text.decode().splitlines():
        word, first, second = line.split("\t")
        assert word and int(first) + int(second) == 3
    return time.process_time() - start


def cost(data: bytes) -> tuple[float, bool]:
    """In yardsticks what reading takes, the least of some tries if there is any doubt, and whether it was read."""
    best, found = math.inf, False
    for _ in range(TRIES):
        length = yardstick()
        seconds, found = took(data)
        best = min(best, seconds / length)
        if best < LIMIT:
            break
    return best, found


@pytest.mark.parametrize("name", [*SPECIMENS, POINTERS])
def test_mutants(name: str, compile_sample: Compile, newest: Path, tmp_path: Path) -> None:
    if name == POINTERS:
        data = sample_of_go_1_17(newest)
    else:
        data = compile_sample(TESTED[-1], SPECIMENS[name], tmp_path / "app").read_bytes()
    rng = random.Random(f"{SEED} {name}")
    slowest, read, refused = 0.0, 0, 0
    gc.disable()
    try:
        for number, mutant in enumerate(mutants(data, -(-MUTANTS // len(SPECIMENS)), rng)):
            taken, found = cost(mutant)
            assert taken < LIMIT, f"mutant {number} of {name} took {taken:.1f} yardsticks"
            read, refused, slowest = read + found, refused + (not found), max(slowest, taken)
    finally:
        gc.enable()
    assert refused > 100, "the mutations must reach what the reader looks at"
    sys.stdout.write(f"{name}: {read} read, {refused} refused, slowest {slowest:.2f} yardsticks\n")


#: Module texts that cost the most for what they are: all within the bounds, or just beyond.
TEXTS = {
    "lines": b"build\ta=b\n" * 8100,
    "modules": b"dep\ta\tb\n" * 8100,
    "escapes": b'build\tx="' + rb"\x41" * 8000 + b"y" * 900_000 + b'"\n',
    "no-utf-8": b'build\tx="' + b"\xff" * 900_000 + b' "\n',
    "no-end": b'build\tx="' + rb"\x" * 8000 + b"y" * 900_000 + b"\n",
    "back-quotes": b"build\t" + b"`\r" * 400_000 + b"`=x\n",
    "long": b"build\tx=" + b"y" * 1_000_000 + b"\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_costly_texts(name: str, compile_sample: Compile, tmp_path: Path) -> None:
    """In the place of a real program's own: what follows it in the file is not looked at."""
    data = bytearray(compile_sample(TESTED[-1], SPECIMENS["elf-64"], tmp_path / "app").read_bytes())
    text = bytes(16) + TEXTS[name] + bytes(16)
    length = bytes([len(text) & 0x7F | 0x80, len(text) >> 7 & 0x7F | 0x80, len(text) >> 14])
    blob = MAGIC + bytes([8, 2]) + bytes(16) + b"\x06go1.27" + length + text
    at = data.find(MAGIC)
    data[at : at + len(blob)] = blob
    # The program's headers say how much of the file is data: as much as it takes.
    offset = int.from_bytes(data[32:40], "little")
    for start in range(offset, offset + 56 * int.from_bytes(data[56:58], "little"), 56):
        data[start + 32 : start + 40] = len(data).to_bytes(8, "little")
    data[40:48] = bytes(8)
    taken, read = cost(bytes(data))
    sys.stdout.write(f"{name}: {taken:.1f} yardsticks, read {read}\n")
    assert taken < LIMIT
    assert read is (name in ("lines", "modules", "escapes", "long"))
