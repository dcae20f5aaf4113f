"""The keys of `[policy]`, of a service's own policy, and of `[[policy.ignore]]`."""

import re
from collections.abc import Callable

from cgroup_preflight.config.key import Key, Section
from cgroup_preflight.config.model import Policy
from cgroup_preflight.config.properties import PERCENT
from cgroup_preflight.core import codes
from cgroup_preflight.core import quantities as q
from cgroup_preflight.core.firm import is_firm
from cgroup_preflight.core.policy import FAMILIES, OWN

_CODE = r"CGP[1-8][0-9]{2}"
_CODE_SHAPE = "^CGP[1-5][0-9]{2}$"
_DAY = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
REASON_MAX = 300
_SUBJECT_MAX = 300


def parse_code(text: str) -> str:
    """A code that a policy can name. Raises QuantityError."""
    if not re.fullmatch(_CODE, text, re.ASCII):
        raise q.QuantityError(f"{text[:40]!r} is not a code", "a code of the report, such as CGP514")
    if not text.startswith(FAMILIES):
        raise q.QuantityError(
            f"{text} does not come from check, validate, smoke, run or inject, and the policy is about these",
            "a code from CGP1xx to CGP5xx",
        )
    return text


def parse_ignored_code(text: str) -> str:
    """A code that an ignore can name. Raises QuantityError."""
    if parse_code(text) in OWN:
        raise q.QuantityError(
            f"{text} is about an ignore that expired or is not needed",
            "the code of something else, or remove that ignore",
        )
    return text


def parse_lowered_code(text: str) -> str:
    """A code whose fails may be warnings. Raises QuantityError."""
    if is_firm(parse_code(text)):
        raise q.QuantityError(
            f"a fail of {text} means that a limit is not in force, or is not proved: warn_on does not change that",
            f'[[policy.ignore]] with code = "{text}", a subject and a reason',
        )
    return text


def parse_reason(text: str) -> str:
    """Why something is ignored: one line. Raises QuantityError."""
    if not text.strip() or len(text) > REASON_MAX or not text.isprintable():
        raise q.QuantityError("this is not a reason", f"one line that says why, of at most {REASON_MAX} characters")
    return text.strip()


def _subject(text: str) -> str:
    if not text or len(text) > _SUBJECT_MAX or not text.isprintable():
        raise q.QuantityError(
            f"{text[:40]!r} is not a subject", "the subject as the report has it, such as user-api; * is any text"
        )
    return text


def _day(text: str) -> str:
    import datetime as dt  # few configs have one

    try:
        if re.fullmatch(_DAY, text, re.ASCII):
            return dt.date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise q.QuantityError(f"{text[:40]!r} is not a day", 'YYYY-MM-DD, such as "2027-06-30"')


def _percent(text: str) -> float:
    return q.parse_permyriad(text).value / 10000


THRESHOLDS = (
    Key(name="headroom_min", kind="string", doc="The least share of MemoryMax that must be free at the peak.",
        parse=_percent, default=f"{Policy().headroom_min:.0%}", examples=("30%",), schema={"pattern": PERCENT}),
    Key(name="throttled_max", kind="string", doc="The largest share of CPU periods that may be throttled after the "
        "start.", parse=_percent, default=f"{Policy().throttled_max:.0%}", examples=("50%",),
        schema={"pattern": PERCENT}),
)  # fmt: skip


def _codes(name: str, doc: str, parse: Callable[[str], str], example: str) -> Key:
    return Key(name=name, kind="strings", doc=doc, parse=parse, examples=([example],),
               schema={"items": {"type": "string", "pattern": _CODE_SHAPE}})  # fmt: skip


POLICY_SECTIONS = {
    "policy": Section(doc="What a run warns of for all services, what fails, and what is accepted.", keys=(
        *THRESHOLDS,
        _codes("fail_on", "Codes whose warnings are a fail.", parse_code, codes.HEADROOM.code),
        _codes("warn_on", "Codes whose fails are only warnings. A limit that is not in force stays a fail.",
               parse_lowered_code, codes.READINESS.code),
        Key(name="machine_warnings", kind="bool", doc="Show warnings about the machine where those about the project are: "
            "above the table, in annotations, SARIF and Code Quality.", default=False),
    )),
    "policy.ignore": Section(doc="One exception: findings that are shown as ignored, with the reason, and do not count.", keys=(
        Key(name="code", kind="string", doc="The code of the findings.", parse=parse_ignored_code, required=True,
            examples=(codes.STOP.code,), schema={"pattern": _CODE_SHAPE}),
        Key(name="subject", kind="string", doc="Their subject, as the report has it; * is any text. Every subject without "
            "it.", parse=_subject, examples=("worker",), schema={"minLength": 1, "maxLength": _SUBJECT_MAX}),
        Key(name="reason", kind="string", doc="Why.", parse=parse_reason, required=True,
            examples=("it ignores SIGTERM until its queue is empty",),
            schema={"pattern": r"\S", "maxLength": REASON_MAX}),
        Key(name="until", kind="string", doc="The last day, in UTC, on which the exception is valid.", parse=_day,
            examples=("2027-06-30",), schema={"format": "date", "pattern": f"^{_DAY}$"}),
    )),
}  # fmt: skip
