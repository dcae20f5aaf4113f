"""Programs that are not on this machine are looked at in the artifact: a gate before a deploy has nothing but that.

What a Go program needs to fit its limits is part of the plan, so without the program there is no plan.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace

from cgroup_preflight.artifacts.content import Wish, chosen
from cgroup_preflight.artifacts.survey import Survey
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.golang import program as programs


@contextlib.contextmanager
def borrowing(seen: Survey) -> Iterator[Survey | None]:
    """A survey that copies the programs that are not here into temporary files; None where all are here.

    Raises UsageError where one is not in the artifact either.
    """
    wish, holdings = seen.wish, seen.holdings()
    absent = [item for item in chosen(wish, holdings) if item.label in wish.absent]
    if not absent:
        yield None
        return
    for item in absent:
        if not holdings.programs.get(item.label):
            remedy = Remedy(title="build it first, or, if it is no Go program, set go_settings = false for the service")
            raise UsageError(
                f"the program of {item.label} is neither here nor in the artifact, and if it is a Go program, the plan "
                "depends on it", where=item.binary, remedy=remedy,
            )  # fmt: skip
    with contextlib.ExitStack() as stack:
        files = {
            item.label: stack.enter_context(tempfile.NamedTemporaryFile(prefix="cgroup-preflight-"))
            for item in absent
        }  # fmt: skip
        yield Survey(wish=wish, limits=seen.limits, package=seen.package, linked=seen.linked, copies=files)


def replanned(copying: Survey) -> Wish:
    """The wish with the plan for the programs that were copied."""
    wish = copying.wish
    for file in copying.copies.values():
        file.flush()
    found = {label: programs.survey(file.name) for label, file in copying.copies.items()}
    return replace(wish, plan=wish.replan(found), absent=frozenset()) if wish.replan else wish
