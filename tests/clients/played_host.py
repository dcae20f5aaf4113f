"""A host of a fleet whose service manager is played: `played_host.py STATE rollout plan|apply|journal ...`.

The rollout on it is a real one: its states, its journal and its report. The file STATE/scenario says how it goes.
"""

import os
import sys
from pathlib import Path

from cgroup_preflight.cli import common, options
from cgroup_preflight.cli.rollout import main
from cgroup_preflight.core.verdict import exit_status_of
from cgroup_preflight.report import codec
from cgroup_preflight.rollout import journal as journals
from cgroup_preflight.rollout.outcome import findings_of
from cgroup_preflight.rollout.prepare import prepare
from tests.unit.core.making import config_of
from tests.unit.engines.machine import NUMBERS
from tests.unit.rollout.played import Game, PlayedManager
from tests.unit.rollout.test_run import NEW, OLD, harm


def call(state: Path, words: list[str]) -> int:
    scenario = (state / "scenario").read_text().strip()
    with (state / "calls").open("a") as log:
        log.write(f"{os.uname().nodename} {words[0]}\n")
    if words[0] == "journal":
        return main(["journal", "--state", str(state)])
    game = Game(str(state), OLD, NEW)
    if words[0] == "plan":
        config = config_of(Path(words[words.index("--config") + 1]).read_text())
        manager = game.manager if scenario != "unknown slice" else PlayedManager({}, game.clock)
        return report(prepare(config, manager, NUMBERS, cpus=4).findings)
    if scenario == "harm":
        game.watcher = harm()
    if scenario == "killed":
        game.manager.kill_at = 30
    game.play()
    if scenario == "cut":
        (state / "unreachable").touch()
    found = journals.read(game.path)
    assert found is not None
    return report(findings_of(found.state, found.records), torn=scenario == "torn")


def report(findings: object, *, torn: bool = False) -> int:
    made = common.report(common.start(), None, findings)  # type: ignore[arg-type]
    text = codec.render(made)
    options.write_stdout(text[: len(text) // 2] + "\n}\n" if torn else text)
    return exit_status_of(made.verdict)


if __name__ == "__main__":
    sys.exit(call(Path(sys.argv[1]), sys.argv[3:]))
