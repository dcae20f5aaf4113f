"""CGP123: the user manager, if units are started through it, keeps running without a session."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP123", "user-manager", Severity.WARNING)
PAGE = Page(
    what="Checks that the user manager, if units are started through it, keeps running without a session.",
    fails="Without lingering the manager ends with the last session of the user, possibly in the middle of a job.",
    fix="Enable lingering for the user.",
    about=("linger",),
    sources=("https://www.freedesktop.org/software/systemd/man/latest/loginctl.html",),
)


def _run(context: Context) -> Iterable[Finding]:
    if context.engine.name != "user":
        return (CODE.finding(Status.SKIP, "user manager", "units are not started through a user manager here"),)
    linger = context.facts.user_manager.linger
    if isinstance(linger, Missing):
        return (unverified(CODE, "linger", linger),)
    evidence = {linger.source: linger.value}
    if linger.value:
        return (CODE.finding(Status.PASS, "linger", "the user manager runs without a session", evidence=evidence),)
    remedy = Remedy(
        title="enable lingering", commands=(("loginctl", "enable-linger", str(value_or(context.facts.uid, "UID"))),),
        needs_root=True, persistent=True, docs=PAGE.sources[0],
    )  # fmt: skip
    message = "the user manager ends with the last session of this user"
    return (CODE.finding(Status.WARN, "linger", message, remedy, evidence=evidence),)


CHECK = Check(code=CODE, page=PAGE, needs=("user_manager",), uses=("uid",), run=_run)
