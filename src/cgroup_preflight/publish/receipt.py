"""Runs channels one after the other and writes down what became of each; nothing that happens in one stops another."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from cgroup_preflight.publish.clock import Clock
from cgroup_preflight.publish.deadline import run_within
from cgroup_preflight.publish.forge_error import ForgeError
from cgroup_preflight.publish.hints import failed
from cgroup_preflight.publish.outcome import Delivery, Outcome

#: What the seam may overrun its own deadline by before the whole is given up, seconds.
_GRACE = 2.0
Channel = Callable[[], Outcome]
#: A channel that is told how many seconds it has.
Waiting = Callable[[float], Outcome]


class Receipt:
    """The outcomes so far, in order."""

    def __init__(self, hide: Callable[[str], str] = str) -> None:
        self.outcomes: list[Outcome] = []
        self._hide = hide

    def add(self, outcome: Outcome) -> None:
        """One more, without tokens: an answer can repeat the request's headers."""
        detail, hint, url = (self._hide(text) for text in (outcome.detail, outcome.hint, outcome.url))
        self.outcomes.append(replace(outcome, detail=detail, hint=hint, url=url))

    def attempt(self, name: str, channel: Channel, hint: Callable[[ForgeError], str] | None = None) -> None:
        """Runs `channel`; what it raises becomes an outcome."""
        self.add(_attempt(name, channel, hint))

    def attempt_all(
        self, channels: Mapping[str, Waiting], *, seconds: float, clock: Clock, hint: Callable[[ForgeError, str], str]
    ) -> None:
        """Runs channels that wait for a forge, all within `seconds`; none uses up what the later ones need."""
        for number, (name, channel) in enumerate(channels.items()):
            share, began = seconds / (len(channels) - number), clock.monotonic()
            self.add(_within(share, name, channel, hint))
            seconds -= min(share, clock.monotonic() - began)


def _within(share: float, name: str, channel: Waiting, hint: Callable[[ForgeError, str], str]) -> Outcome:
    ended: list[Outcome] = []
    run_within(
        share + _GRACE,
        lambda: ended.append(_attempt(name, lambda: channel(share), lambda error: hint(error, name))),
    )
    late = f"no end in sight after {share:.0f} s"
    return ended[0] if ended else Outcome(channel=name, delivery=Delivery.FAILED, detail=late)


def _attempt(name: str, channel: Channel, hint: Callable[[ForgeError], str] | None) -> Outcome:
    try:
        return channel()
    except ForgeError as error:
        return failed(name, error, hint(error) if hint else "")
    except ImportError as error:
        return Outcome(channel=name, delivery=Delivery.FAILED, detail=f"{error.name} cannot be imported",
                       hint="pip install --force-reinstall cgroup-preflight")  # fmt: skip
    except Exception as error:  # noqa: BLE001 - a client library that stumbles over an answer; no verdict hangs on it
        # Its kind alone: the text may quote an answer, or a header.
        return Outcome(channel=name, delivery=Delivery.FAILED,
                       detail=f"the client library did not understand the answer ({type(error).__name__})")  # fmt: skip
