"""The keys of `[rollout]`, its hook and its queries; each default has its reason."""

import math
import re
from collections.abc import Callable

from cgroup_preflight.config.key import Key, Section
from cgroup_preflight.config.properties import PERCENT
from cgroup_preflight.config.rollout import Query
from cgroup_preflight.core import quantities as q

#: A number with its sign, as PromQL and Python both read it.
_BOUND = r"(?s)(?P<expression>.+?)\s*(?P<operator><=|>=|<|>)\s*(?P<bound>-?[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?)\s*"
_URL = r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/@?#\\\[\]:]+)(:[0-9]{1,5})?(/[!-~]*)?"
_EXPRESSION_MAX = 2000


def _step(text: str) -> int:
    share = q.parse_permyriad(text).value
    if not share:
        raise q.QuantityError("a step of 0% changes nothing", "a share of the way, such as 5%")
    return share


def _share(text: str) -> float:
    return q.parse_permyriad(text).value / 10000


def _factor(text: str) -> float:
    factor = q.parse_permyriad(text, bounded=False).value / 10000
    if not 1 <= factor <= 100:
        raise q.QuantityError(f"{text!r} is not a factor", "a percentage from 100% to 10000%, such as 200%")
    return factor


def _count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or not least <= int(text) <= most:
            raise q.QuantityError(
                f"{text!r} is not a number that is allowed here", f"a whole number from {least} to {most}"
            )
        return int(text)

    return parse


def _rate(text: str) -> float:
    return float(_count(0, 100_000)(text))


def _span(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        seconds = q.parse_span(text) / 1e6
        if not least <= seconds <= most:
            raise q.QuantityError(f"{text!r} is too short or too long", f"a time from {least:g}s to {most:g}s")
        return seconds

    return parse


def _word(text: str) -> str:
    if not text or "\0" in text:
        raise q.QuantityError("a word of a command cannot be empty or have a NUL character", "text without NUL")
    return text


def _url(text: str) -> str:
    if not re.fullmatch(_URL, text, re.ASCII):
        raise q.QuantityError(f"{text!r} is not the address of a Prometheus server", "http://127.0.0.1:9090")
    return text.rstrip("/")


def _query(text: str) -> Query:
    match = re.fullmatch(_BOUND, text) if len(text) <= _EXPRESSION_MAX else None
    bound = float(match["bound"]) if match else math.inf
    if match is None or math.isinf(bound) or any(ord(char) < 32 and char not in "\n\t" for char in text):
        raise q.QuantityError(
            f"{text[:80]!r} has no bound", "PromQL, an operator and a number, such as: rate(errors_total[1m]) < 0.5"
        )
    return Query(expression=match["expression"], operator=match["operator"], bound=bound)


_PERCENT = {"pattern": PERCENT}


def _percent(name: str, doc: str, default: str, parse: Callable[[str], object] = _share) -> Key:
    return Key(name=name, kind="string", doc=doc, parse=parse, default=default, examples=(default,), schema=_PERCENT)


def _number(name: str, doc: str, default: int, parse: Callable[[str], object], most: int) -> Key:
    return Key(name=name, kind="quantity", doc=doc, parse=parse, default=default, examples=(default,),
               schema={"type": ["string", "integer"], "minimum": 0, "maximum": most, "pattern": "^[0-9]{1,6}$"})  # fmt: skip


def rollout_sections(slice_keys: tuple[Key, ...], parse_slice_name: Callable[[str], str]) -> dict[str, Section]:
    """The tables; `slice_keys` are the properties of a slice."""
    names = {"kind": "strings", "parse": parse_slice_name}
    return {
        "rollout": Section(doc="How `rollout` changes the limits of running slices.", keys=(
            Key(name="steps", kind="strings", doc="Shares of the way from the old values to the new ones; the last is 100%. The "
                "first is small: most harm shows early, and little is changed then.", parse=_step,
                default=["5%", "25%", "50%", "100%"], examples=(["10%", "50%", "100%"],),
                schema={"items": {"type": "string", "pattern": PERCENT}}),
            _time("interval", "How long each step is watched before the next one. It has room for three samples of 10s, the "
                  "shortest average of the kernel's pressure.", "30s", 1, 86400),
            _time("settle", "Time after a change that is not judged: two periods of a quota, and the 10s of a pressure average.",
                  "10s", 0, 3600),
            _time("soak", "How long the last step is watched before the values become persistent.", "5min", 0, 86400),
            _time("deadline", "How long a pause without enough numbers may last; then the old values come back. As the "
                  "deadline of Argo Rollouts and Flagger.", "10min", 1, 86400),
            _time("restore_after", "When the manager restores the old values by itself if this tool no longer runs. Above "
                  "what a loaded host needs between two signs of life.", "1min", 10, 3600),
            _percent("memory_margin", "How much of a memory limit must be above what cannot be reclaimed: room for the page "
                     "cache that the program text needs.", "5%"),
            Key(name="order", doc="Slices that change one after another, each through all steps; the others follow together.",
                examples=(["go-app-canary"],), **names),  # type: ignore[arg-type]
            Key(name="control", doc="Slices that are compared with and never changed.", examples=(["go-app-stable"],), **names),  # type: ignore[arg-type]
            *_THRESHOLDS,
        )),
        "rollout.slices.*": Section(doc="The target values of one slice of the host.", keys=slice_keys),
        "rollout.hook": Section(doc="Commands (program and arguments, no shell) that follow the rollout, such as those of a "
            "load balancer. In each word {share}, {step}, {slices}, {rollout} and {host} (that of --host) are replaced.", keys=(
            Key(name="before", kind="strings", doc="Runs before each step; a failure stops the rollout and takes it back.",
                parse=_word, examples=(["/usr/local/bin/weight", "go-app-v2", "{share}"],)),
            Key(name="after", kind="strings", doc="Runs after each step was read back.", parse=_word,
                examples=(["/usr/local/bin/announce", "{step}"],)),
            Key(name="back", kind="strings", doc="Runs after the old values are back.", parse=_word,
                examples=(["/usr/local/bin/weight", "go-app-v2", "0"],)),
            _time("timeout", "Time that one command may take.", "30s", 1, 600),
        )),
        "rollout.prometheus": Section(doc="A Prometheus server that is asked after each sample.", keys=(
            Key(name="url", kind="string", doc="Its address.", parse=_url, examples=("http://127.0.0.1:9090",),
                schema={"pattern": f"^{_URL}$"}),
            Key(name="queries", kind="strings", doc="PromQL with a bound. An empty answer is inconclusive.", parse=_query,
                examples=(['sum(rate(http_errors_total{job="api"}[1m])) < 0.5'],),
                schema={"items": {"type": "string", "maxLength": _EXPRESSION_MAX}}),
        )),
    }  # fmt: skip


def _time(name: str, doc: str, default: str, least: float, most: float) -> Key:
    return Key(name=name, kind="span", doc=doc, parse=_span(least, most), default=default, examples=(default,),
               schema={"minimum": int(least), "maximum": int(most)})  # fmt: skip


_THRESHOLDS = (
    _number("samples_min", "The least number of samples for a verdict: one can be chance, and two do not show which is.", 3,
            _count(1, 1000), 1000),
    _number("periods_min", "The fewest CPU periods in a sample whose throttled share counts: 50 are 5s at the usual 100ms.", 50,
            _count(1, 100_000), 100_000),
    _number("failures_max", "How many samples may be bad. 0, as Argo Rollouts: what harms once harms again.", 0,
            _count(0, 1000), 1000),
    _number("errors_max", "How many times in a row a query may fail: a server can restart. 4, as Argo Rollouts.", 4,
            _count(0, 1000), 1000),
    _percent("throttled_margin", "How many more of the CPU periods may be throttled than in control slices and before. A "
             "burst now and then throttles some of any program.", "5%"),
    _percent("pressure_factor", "How many times the usual time tasks may wait for a CPU.", "200%", _factor),
    _percent("pressure_floor", "Time waiting for a CPU that is always allowed: twice next to nothing is no harm.", "10%"),
    _percent("memory_stalled_max", "Time in which all tasks wait for memory; above it the old values come back at once. "
             "systemd-oomd kills at 60%.", "10%"),
    _number("memory_events_max", "How many more memory events (high, max) a second than before. The kernel counts one for each "
            "charge above a limit, so a few are normal.", 1, _rate, 100_000),
    _percent("neighbour_margin", "How much more a sibling slice may wait for CPU or memory than before.", "10%"),
)  # fmt: skip
