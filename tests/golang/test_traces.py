"""The own reader of execution traces against `go tool trace -d=parsed`, for traces of each format that it knows.

The text of the tool is not a stable format, so one version of it reads them all. The first call compiles it.
"""

import subprocess
from pathlib import Path

import pytest
from ci.build_go import go_environment
from ci.toolchains import toolchain

from cgroup_preflight.golang import trace, trace_text
from cgroup_preflight.golang.trace import Generation
from cgroup_preflight.metrics.go_delays import GoDelays, delays_of

_PROGRAM = """\
package main

import (
	"os"
	"runtime/trace"
	"sync"
	"time"
)

func main() {
	if err := trace.Start(os.Stdout); err != nil {
		panic(err)
	}
	defer trace.Stop()
	var wait sync.WaitGroup
	for worker := 0; worker < 6; worker++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			end := time.Now().Add(700 * time.Millisecond)
			for turn := 0; time.Now().Before(end); turn++ {
				if turn%100000 == 0 {
					os.ReadFile("/proc/self/stat")
					time.Sleep(time.Millisecond)
				}
			}
		}()
	}
	wait.Wait()
}
"""


def _traced(version: str, cache: Path, folder: Path) -> bytes:
    """A trace of a program that this toolchain built; some seconds the first time."""
    folder.mkdir()
    (folder / "go.mod").write_text("module example.com/traced\n\ngo 1.21\n")
    (folder / "main.go").write_text(_PROGRAM)
    program = folder / "traced"
    go = toolchain(version, cache)
    subprocess.run([go, "build", "-o", program, "."], cwd=folder, env=go_environment(cache), check=True, timeout=600)
    done = subprocess.run([program], env={"GOMAXPROCS": "2"}, capture_output=True, check=True, timeout=60)
    return done.stdout


def _delays(generations: tuple[Generation, ...]) -> GoDelays:
    # The offset to the kernel's clock is a whole number of nanoseconds in one, and a float in the other.
    first, last = generations[0].begin / 1e9, generations[-1].end / 1e9
    found = delays_of(generations, "/x", "", first - 1, last + 1)
    assert found is not None
    return found


@pytest.mark.parametrize("version", ["1.23.9", "1.24.11", "1.25.5", "1.27.3"])
def test_both_readers_give_the_same_delays(version: str, newest: Path, cache: Path, tmp_path: Path) -> None:
    data = _traced(version, cache, tmp_path / "traced")
    (tmp_path / "x.trace").write_bytes(data)
    text = subprocess.run(
        [newest, "tool", "trace", "-d=parsed", str(tmp_path / "x.trace")], env=go_environment(cache), capture_output=True,
        check=True, timeout=900,
    ).stdout.decode()  # fmt: skip
    own, tool = _delays(tuple(trace.generations(data))), _delays(tuple(trace_text.generations(text.splitlines())))
    assert own.whole
    assert own.count == tool.count > 20
    for mine, theirs in ((own.median, tool.median), (own.p99, tool.p99), (own.longest, tool.longest)):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-6)
    for share in (0, 1):
        mine, theirs = (
            sum((slot.waiting, slot.running)[share] for slot in item.slots.values()) for item in (own, tool)
        )
        assert mine == pytest.approx(theirs, rel=0.01, abs=0.01)
    assert all(generation.clock for generation in trace.generations(data))


def test_a_trace_of_before_the_new_format_is_named_as_such(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(trace.NotATraceError, match=r"its format is that of Go 1\.21"):
        list(trace.generations(_traced("1.21.13", cache, tmp_path / "traced")))
