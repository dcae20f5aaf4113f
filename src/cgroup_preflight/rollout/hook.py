"""The commands of `[rollout.hook]`: argv without a shell, with the numbers of the step in place of a few words."""

import re
from collections.abc import Sequence

from cgroup_preflight.config.rollout import Hook
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.engines.answers import error_words
from cgroup_preflight.host.command import CommandRunner
from cgroup_preflight.rollout.machine import State
from cgroup_preflight.rollout.stages import Stage


def filled(
    words: Sequence[str], *, rollout: str, state: State, stage: Stage | None, host: str = ""
) -> tuple[str, ...]:  # fmt: skip
    """The command; after a rollback the share and the step are 0. `host` is that of --host."""
    values = {
        "{host}": host, "{rollout}": rollout, "{step}": str(state.stage + 1 if stage else 0),
        "{share}": f"{stage.share / 100:g}" if stage else "0", "{slices}": ",".join(stage.slices if stage else ()),
    }  # fmt: skip
    return tuple(_replaced(word, values) for word in words)


def _replaced(word: str, values: dict[str, str]) -> str:
    """At once: what a host is called can look like another name."""
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], word)


class Hooks:
    """Runs the commands of one rollout, on this machine; `host` is the name of the machine that is changed, if it is another."""

    def __init__(self, hook: Hook, programs: CommandRunner, rollout: str, host: str = "") -> None:
        self._hook, self._programs, self._rollout, self._host = hook, programs, rollout, host

    def run(self, when: str, state: State, stage: Stage | None) -> str:
        """Runs the command of `before`, `after` or `back`; why it failed, empty where it did not or there is none."""
        words: tuple[str, ...] = getattr(self._hook, when)
        if not words:
            return ""
        argv = filled(words, rollout=self._rollout, state=state, stage=stage, host=self._host)
        done = self._programs.run(argv, timeout=self._hook.timeout)
        why = str(done) if isinstance(done, Missing) else error_words(done.value)
        return f"the hook {when} ({words[0]}) failed: {why}" if why else ""
