"""From a service of the plan to what the checks of Go programs look at. Pure."""

from cgroup_preflight.checks.go.base import Subject
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core.limits import Chain
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.golang.program import Binary
from cgroup_preflight.golang.runtime import predict
from cgroup_preflight.plan.expect import HostNumbers
from cgroup_preflight.plan.limits import service_chain
from cgroup_preflight.plan.model import Plan, ServicePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class GoTarget:
    """The machine that the programs will run on: its CPUs, `uname -m`, swap (None: unknown), and its numbers."""

    cpus: frozenset[int]
    machine: str
    swap: bool | None = None
    numbers: HostNumbers | None = None


def with_prediction(subject: Subject) -> Subject:
    """The subject with what its runtime will choose, where it is a Go program."""
    info = subject.program.info
    if info is None:
        return subject
    return replace(subject, prediction=predict(info, subject.environment, subject.chain, subject.cpus))


def bare_subject(service: ServicePlan, plan: Plan, target: GoTarget) -> Subject:
    """The service with nothing but what the config says."""
    chain = service_chain(plan, service, target.numbers)
    leaf = replace(chain.leaf, has_cpu_max=chain.leaf.has_cpu_max or _neighbour_uses_cpu(service, plan))
    return with_prediction(
        Subject(
            label=service.label,
            program=service.program or Binary(path=service.binary, why_not="was not looked at"),
            chain=Chain(levels=(leaf, *chain.levels[1:])),
            environment=dict(service.own_env),
            cpus=target.cpus,
            machine=target.machine,
            swap=target.swap,
            location=service.location,
            variables_at=dict(service.variables_at),
        )
    )


def _neighbour_uses_cpu(service: ServicePlan, plan: Plan) -> bool:
    """Whether a neighbour uses the cpu controller: it is enabled for all units of a slice or for none."""
    if not service.slices:
        return False
    parent = service.slices[-1]
    below = [item.settings for item in plan.slices if item.unit.startswith(f"{parent.removesuffix('.slice')}-")]
    neighbours = [item.settings for item in plan.services if parent in item.slices and item.unit != service.unit]
    return any(BY_NAME[setting.property].controller == "cpu" for one in (*below, *neighbours) for setting in one)


def fitted_subject(service: ServicePlan, plan: Plan, target: GoTarget) -> Subject | None:
    """The service with the generated settings; None where nothing is generated."""
    if service.go is None:
        return None
    bare = bare_subject(replace(service, go=None), plan, target)
    return with_prediction(replace(bare, environment=dict(service.smoke.env)))
