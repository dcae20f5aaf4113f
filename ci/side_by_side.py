"""Time processes in turn with `python -c pass` and print ratios: `python ci/side_by_side.py NAME=WORDS...`.

WORDS are arguments of Python. The script needs the standard library only, so that it also runs in a guest.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

PAIRS = 15
_BASE = ("-c", "pass")


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that one call took."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def ratio(name: str, measured: list[float], base: list[float]) -> str:
    """Return one line: both medians, and the median of the ratios of each pair."""
    ratios = [a / b for a, b in zip(measured, base, strict=True)]
    return (
        f"{name:<34} {statistics.median(measured) * 1000:7.1f} ms   base {statistics.median(base) * 1000:7.1f} ms"
        f"   ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
    )


def compare(commands: Mapping[str, Sequence[str]], folder: str | None = None) -> None:
    """Print a line for each command. The commands and the base take turns, so that noise affects all of them equally."""

    def run(words: Sequence[str]) -> object:
        return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=False)

    seconds: dict[str, list[float]] = {name: [] for name in commands}
    base: list[float] = []
    for number in range(PAIRS + 1):
        taken = timed(lambda: run(_BASE))
        here = {name: timed(lambda words=words: run(words)) for name, words in commands.items()}  # type: ignore[misc]
        if number:
            # The first round fills the caches.
            base.append(taken)
            for name, value in here.items():
                seconds[name].append(value)
    for name, measured in seconds.items():
        print(ratio(name, measured, base), flush=True)


def main(words: list[str]) -> int:
    """Compare the named commands."""
    pairs = [word.split("=", 1) for word in words]
    compare({name: command.split() for name, command in pairs})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
