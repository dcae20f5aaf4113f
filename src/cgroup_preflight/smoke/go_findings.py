"""Compares what the Go runtime chose with the model: pure. A difference is a finding."""

from collections.abc import Iterable, Mapping

from cgroup_preflight.checks.go import address_space_limit, gomemlimit_near_heap
from cgroup_preflight.checks.go.base import Measured
from cgroup_preflight.checks.go.runner import run_go_checks
from cgroup_preflight.checks.go.subjects import GoTarget, bare_subject, fitted_subject
from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import Known, value_or
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.golang.runtime import RuntimePrediction, predict
from cgroup_preflight.golang.runtime_libs import effects
from cgroup_preflight.host.facts import Facts
from cgroup_preflight.plan.expect import HostNumbers
from cgroup_preflight.plan.model import Plan, ServicePlan
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.go_trace import Trace
from cgroup_preflight.smoke.go_view import GoMemory, GoView

_VARIABLES = ("GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "GOGC")
#: Only a run can judge these; the other checks are made before it.
_MEASURED = (address_space_limit.CODE.code, gomemlimit_near_heap.CODE.code)


def target_of(facts: Facts, numbers: HostNumbers | None = None) -> GoTarget:
    """The host of the run as the machine that the programs run on."""
    swap = value_or(facts.meminfo, {}).get("SwapTotal")
    return GoTarget(
        cpus=value_or(facts.online_cpus, frozenset({0})),
        machine=value_or(facts.machine, ""),
        swap=None if swap is None else swap > 0,
        numbers=numbers,
    )


def plan_findings(plan: Plan, target: GoTarget) -> list[Finding]:
    """What the checks of Go programs say about each service, before anything is run."""
    found: list[Finding] = []
    for service in plan.services:
        found += run_go_checks(bare_subject(service, plan, target), fitted_subject(service, plan, target))
    return found


def differs(view: GoView, service: ServicePlan) -> bool:
    """Whether only a second run can tell what the runtime chose: its choice is not seen, or is not the expected one."""
    if view.info is None or view.chain.v1_cpu or not view.cpus:
        return False
    expected = predict(view.info, dict(service.smoke.env), view.chain, view.cpus).gomaxprocs
    return view.procs is None or expected not in (None, view.procs)


def proof_findings(
    seen: Iterable[ServiceEvidence], traces: Mapping[str, Trace], plan: Plan, target: GoTarget
) -> list[Finding]:
    """What the run showed of each Go program: its choice against the model, its memory against the kernel's count."""
    found: list[Finding] = []
    for one in seen:
        if one.go is None:
            found += _unseen(one.service)
            continue
        trace = traces.get(one.service.unit, Trace(why="it was not traced"))
        # A second run tells what the program begins with, and not what it has by the end of its time.
        trace = trace if one.go.procs is None else replace(trace, last=one.go.procs)
        found += _choice(one.service, one.go, trace)
        if one.go.memory is not None:
            found.append(_memory(one.service, one.go.memory))
        found += _measured(one.service, one.go, plan, target)
    return found


def _unseen(service: ServicePlan) -> Iterable[Finding]:
    """A Go program that was not observed while it ran: no finding would look like agreement."""
    if service.program is not None and service.program.info is not None:
        why = "it ended too early, runs as another user, or starts another program"
        yield codes.GO_RUNTIME_CHOICE.finding(
            Status.SKIP,
            service,
            f"what the Go runtime chose was not seen: {why}",
        )


def _choice(service: ServicePlan, view: GoView, trace: Trace) -> Iterable[Finding]:
    info = view.info
    if info is None or view.chain.v1_cpu or not view.cpus:
        return
    actual = value_or(view.environ, dict(service.smoke.env))
    expected = predict(info, dict(service.smoke.env), view.chain, view.cpus)
    wrong = [*_environment(service, view), *_open_file(view, expected), *_procs(view, expected, trace)]
    seen = "unknown" if trace.last is None else str(trace.last)
    evidence: dict[str, str | int | float | bool | None] = {
        "gomaxprocs_expected": expected.gomaxprocs,
        "gomaxprocs_at_start": trace.first,
        "gomaxprocs": trace.last,
        "cpu.max open": ", ".join(value_or(view.cpu_max_open, ("unknown",))) or "none",
        **{name: actual[name] for name in _VARIABLES if name in actual},
    }
    if wrong:
        yield codes.GO_RUNTIME_CHOICE.finding(
            Status.WARN,
            service,
            f"the Go runtime differs from the plan: {'; '.join(wrong)}",
            Remedy(
                title="look for a call of runtime.GOMAXPROCS, automaxprocs or a wrapper that changes the environment",
                why="the settings of the plan have no effect then",
            ),
            evidence=evidence,
        )
    elif trace.last is None:
        yield codes.GO_RUNTIME_CHOICE.finding(
            Status.SKIP,
            service,
            f"GOMAXPROCS was not seen ({trace.why}); environment and open files are as planned",
            evidence=evidence,
        )
    else:
        limit = actual.get("GOMEMLIMIT", "none")
        yield codes.GO_RUNTIME_CHOICE.finding(
            Status.PASS,
            service,
            f"the Go runtime chose GOMAXPROCS {seen}, memory limit {limit}, as planned",
            evidence=evidence,
        )


def _environment(service: ServicePlan, view: GoView) -> Iterable[str]:
    if not isinstance(view.environ, Known):
        return
    wanted = dict(service.smoke.env)
    for name in _VARIABLES:
        given, real = wanted.get(name), view.environ.value.get(name)
        # A variable of the manager's own environment is not in the plan, but the program sees it.
        if given != real:
            yield (
                f"its environment has {name}={real}, not {given}"
                if real is not None
                else f"{name} is not in its environment"
            )


def _open_file(view: GoView, expected: RuntimePrediction) -> Iterable[str]:
    """An aware runtime keeps cpu.max of its own cgroup open for life, also when GOMAXPROCS overrides it."""
    if not isinstance(view.cpu_max_open, Known) or expected.aware is None:
        return
    wanted = expected.aware and view.chain.leaf.has_cpu_max
    real = view.cpu_max_open.value
    # A program that monitors other cgroups may have their cpu.max open for a moment.
    own = any(path.endswith(f"{view.cgroup}/cpu.max") for path in real)
    if wanted and not own:
        yield f"cpu.max of its cgroup is not open (open: {', '.join(real) or 'none'})"
    elif own and not wanted:
        yield "it has cpu.max of its cgroup open and should not"


def _procs(view: GoView, expected: RuntimePrediction, trace: Trace) -> Iterable[str]:
    if trace.last is None or expected.gomaxprocs is None or expected.gomaxprocs == trace.last:
        return
    assert view.info is not None
    linked = effects(view.info, value_or(view.environ, {}), view.chain)
    if any(effect.gomaxprocs == trace.last for effect in linked):
        return
    changed = f" (started with {trace.first})" if trace.first != trace.last else ""
    yield f"GOMAXPROCS is {trace.last}{changed}, not {expected.gomaxprocs}"


def _memory(service: ServicePlan, memory: GoMemory) -> Finding:
    current = memory.current
    # Mapped memory is not charged until it is used, so at most the anonymous memory is part of Go's count.
    charged = memory.known if memory.anon is None else min(memory.known, memory.anon)
    unknown = None if current is None else max(current - charged, 0)
    if current is None or unknown is None:
        message = f"the Go runtime counts {format_bytes(memory.known)}; the kernel's count is missing"
    else:
        share = 100 * unknown / current if current else 0.0
        message = (
            f"the kernel charges {format_bytes(current)}, the Go runtime counts {format_bytes(memory.known)}: "
            f"at least {format_bytes(unknown)} ({share:.0f}%) of the charge are not covered by GOMEMLIMIT"
        )
    return codes.GO_MEMORY_VIEW.finding(
        Status.PASS,
        service,
        message,
        evidence={
            "memory_current": current,
            "memory_peak": memory.peak,
            "memory_anon": memory.anon,
            "memory_file": memory.file,
            "memory_kernel": memory.kernel,
            "go_counts": memory.known,
            "go_heap_in_use": memory.heap_alloc,
            "go_sys": memory.sys,
            "go_released": memory.heap_released,
            "unknown_to_go": unknown,
            "source": memory.source,
        },
    )


def _measured(service: ServicePlan, view: GoView, plan: Plan, target: GoTarget) -> Iterable[Finding]:
    memory = view.memory
    live = memory.heap_alloc if memory is not None and memory.collected else None
    other = max(memory.sys - memory.heap_sys, 0) if memory is not None else 0
    measured = Measured(live=live, other=other, address_space=view.address_space)
    bare, fitted = bare_subject(service, plan, target), fitted_subject(service, plan, target)
    final = replace(fitted or bare, measured=measured)
    return [item for item in run_go_checks(final) if item.code in _MEASURED]
