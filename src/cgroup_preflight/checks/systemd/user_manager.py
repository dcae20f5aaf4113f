"""CGP123: The user manager, where it is the engine, keeps running without a session."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status


def _run(check: Check, context: Context) -> Iterable[Finding]:
    if context.engine.name != "user":
        return (check.finding(Status.SKIP, "user manager", "the user manager is not the engine here"),)
    linger = context.facts.user_manager.linger
    if isinstance(linger, Missing):
        return (check.unverified("linger", linger),)
    evidence = {linger.source: linger.value}
    if linger.value:
        return (check.finding(Status.PASS, "linger", "the user manager runs without a session", evidence=evidence),)
    remedy = Remedy(
        title="enable lingering", commands=(("loginctl", "enable-linger", str(value_or(context.facts.uid, "UID"))),),
        needs_root=True, persistent=True, docs=check.sources[0],
    )  # fmt: skip
    message = "the user manager ends with the last session of this user"
    return (check.finding(Status.WARN, "linger", message, evidence=evidence, remedies=(remedy,)),)


CHECK = Check(
    code="CGP123",
    name="user-manager",
    severity=Severity.WARNING,
    needs=("user_manager",),
    uses=("uid",),
    what="The user manager, where it is the engine, keeps running without a session.",
    why=(
        "Without lingering the manager ends with the last session of the user, in the middle of a job started "
        "another way."
    ),
    remedy="Enable lingering for the user.",
    sources=("https://www.freedesktop.org/software/systemd/man/latest/loginctl.html",),
    run=_run,
)
