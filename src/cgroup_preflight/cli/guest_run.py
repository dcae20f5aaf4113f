"""What `smoke` and `run` do with the engine `guest`: when it is taken, and its part of the report."""

import argparse
import os
import sys
from collections.abc import Sequence

from cgroup_preflight.checks.base import Context
from cgroup_preflight.cli import options
from cgroup_preflight.config.keys import DISTROS
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Finding, HostSummary, Remedy, ServiceResult
from cgroup_preflight.engines.choice import ENGINES, GUEST
from cgroup_preflight.report.escape import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The guests to run in, in order; `chosen`: the user named them; `fallback`: nobody asked for a guest at all."""

    distros: tuple[str, ...]
    chosen: bool
    fallback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What running in guests gives to the report; `host` is where it was made, None for nothing new.

    `stands_in`: this host's own findings are among the findings, and do not decide; else the host is judged as ever.
    """

    stands_in: bool

    findings: tuple[Finding, ...]
    services: tuple[ServiceResult, ...]
    host: HostSummary | None


def add_target(to: argparse.ArgumentParser) -> None:
    """`--target`."""
    to.add_argument("--target", action="append", choices=DISTROS, default=[], metavar="DISTRO",
                    help=f"run in a guest with this system, one of {', '.join(DISTROS)}; several are possible")  # fmt: skip


def add_inside(to: argparse.ArgumentParser) -> None:
    """`--inside`, which the engine `guest` says to the command in there: the machine is thrown away afterwards."""
    to.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)


def wanted(targets: list[str], engine: str, config: Config, context: Context) -> Wanted | None:
    """The guests to run in, None for an engine of this host. Raises UsageError for a contradiction."""
    if targets and engine in ENGINES:
        raise UsageError(f"--target runs in a guest, and --engine {engine} does not", where="--target",
                         remedy=Remedy(title="leave one of them out"))  # fmt: skip
    named = tuple(dict.fromkeys(targets)) or ((config.target.distro,) if config.target.distro else ())
    if engine == GUEST or (engine == "auto" and (named or context.engine.name is None)):
        from cgroup_preflight.guest.run import DEFAULT_DISTRO

        return Wanted(distros=named or (DEFAULT_DISTRO,), chosen=bool(named), fallback=engine == "auto" and not named)
    return None


def run_in_guests(
    targets: list[str], engine: str, config: Config, context: Context, words: tuple[str, ...], names: tuple[str, ...],
    host: Sequence[Finding],
) -> Part | None:  # fmt: skip
    """The part of the guests where one is to be used, else None. `host` are the findings about this host."""
    found = wanted(targets, engine, config, context)
    return try_guests(config, found, words, names, tuple(host)) if found is not None else None


def try_guests(
    config: Config, found: Wanted, words: tuple[str, ...], names: tuple[str, ...], host: tuple[Finding, ...]
) -> Part:
    """Runs `words` in each guest; `host` are the findings about this one. A guest that fails is a finding."""
    from cgroup_preflight.guest import findings as guest_findings
    from cgroup_preflight.guest import run as guest_engine
    from cgroup_preflight.guest.spec import GuestError

    several = len(found.distros) > 1
    findings: list[Finding] = []
    services: list[ServiceResult] = []
    judged = []
    made = False
    for distro in found.distros:
        label = distro if several else ""
        task = guest_engine.GuestTask(config=config, words=words, names=names, distro=distro)
        try:
            done = guest_engine.run_task(task, os.environ, say)
        except GuestError as error:
            made = True
            findings.append(guest_findings.lost(label, error.what, error.console, error.remedy))
            continue
        except HostError as error:
            findings.append(guest_findings.lost(label, f"no service was run: {error}", (), error.remedy))
            continue
        except OSError as error:
            findings.append(guest_findings.lost(label, f"no service was run: {error}", (), _SPACE))
            continue
        part = guest_findings.Judged(
            label=label, distro=distro, machine=done.machine, report=done.report, chosen=found.chosen,
            fence=done.fence, lost_boot=done.lost_boot, seconds=dict(done.seconds), shown_config=config.path,
        )  # fmt: skip
        judged.append(part)
        findings += guest_findings.guest_findings(part)
        services += guest_findings.guest_services(part)
    # Where no guest could be made and none was asked for, nothing stands in for this host.
    stands_in = made or bool(judged) or not found.fallback
    own = guest_findings.host_findings(host) if stands_in else ()
    return Part(
        stands_in=stands_in,
        findings=(*own, *findings),
        services=tuple(services),
        host=guest_findings.summary(None, judged),
    )


_SPACE = Remedy(title="make room in the temporary folder (TMPDIR) and in /dev/shm, or let more files be open")


def say(text: str) -> None:
    """One line about long work; about an image also where nobody watches, for a log that stands still for minutes."""
    if sys.stderr.isatty():
        options.progress(text)
    elif text.startswith(("building", "built", "waiting")):
        sys.stderr.write(f"cgroup-preflight: {plain(text)}\n")
        sys.stderr.flush()
