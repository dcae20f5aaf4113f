"""Plan to files: what an artifact must contain, given what is in it already. Pure.

UnitPaths: systemd.unit(5), "System Unit Search Path"; usr/lib is right for packages, on split-usr systems, too.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence

from cgroup_preflight.artifacts import manifest
from cgroup_preflight.artifacts.model import PackedProgram, other_binary, unsupported
from cgroup_preflight.core.records import dataclass, field
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.golang.program import Binary
from cgroup_preflight.plan.model import Plan, ServicePlan
from cgroup_preflight.plan.unitfile import drop_in_files, drop_in_name, slice_drop_in_files, whole_service

LAYOUTS = ("system", "user")
#: `services`: the whole plan, or what belongs to the programs and units in the artifact.
ALL, PRESENT = "all", "present"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What a run proved: its verdict, and the SHA-256 of each service's program as it was run."""

    verdict: str = manifest.UNTESTED
    binaries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentRequest:
    """All that decides the content: the plan, the hash of its config, where it goes, what was tested.

    `services` is ALL, PRESENT or names of services; `service_units`: write a whole unit where the artifact has none,
    run as `user` (empty: root). `auto_prefix`: the prefix is the top folder of an archive, if it has one. `absent` are
    services whose program is not on this machine, so that the plan does not contain yet what a Go program needs; `replan`
    makes the plan again with the programs in an artifact.
    """

    plan: Plan
    config_sha256: str
    layout: str = "system"
    prefix: str = ""
    auto_prefix: bool = False
    services: str | frozenset[str] = PRESENT
    service_units: bool = False
    user: str = ""
    tested: Tested = field(default_factory=Tested)
    absent: frozenset[str] = frozenset()
    replan: Callable[[Mapping[str, Binary]], Plan] | None = None

    @property
    def unit_folder(self) -> str:
        """Where unit files go, below the root of the artifact."""
        return self.below(f"usr/lib/systemd/{self.layout}")

    def manifest_path(self, package: str = "") -> str:
        """Where the manifest goes: named after the package if there is one, so that two packages can be installed."""
        return self.below(f"usr/share/cgroup-preflight/{package or self.plan.project}.json")

    def below(self, path: str) -> str:
        """`path` below the prefix."""
        return f"{self.prefix}/{path}" if self.prefix else path


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the artifact contains of the plan: programs by service, services with a unit file, its package name."""

    programs: Mapping[str, tuple[PackedProgram, ...]]
    units: frozenset[str]
    package: str = ""


def wanted_files(request: ContentRequest, has: Contents) -> dict[str, bytes]:
    """Every file that the artifact must contain, by path, the manifest last. Raises ArtifactError (CGP302, CGP306).

    Nothing where only services that are present are requested, and none is.
    """
    services = chosen(request, has)
    if request.services == PRESENT and not services:
        return {}
    files: dict[str, bytes] = {}
    slices = {name for service in services for name in service.slices}
    whole = len(services) == len(request.plan.services)
    name = drop_in_name(has.package)
    for unit in slice_drop_in_files(request.plan, name):
        if whole or unit.path.partition(".d/")[0] in slices:
            files[f"{request.unit_folder}/{unit.path}"] = unit.content.encode()
    drop_ins = {unit.path: unit.content for unit in drop_in_files(request.plan, name)}
    for service in services:
        path = f"{service.unit}.d/{name}"
        if request.service_units and service.label not in has.units:
            unit_text = _service_unit(service, has.programs.get(service.label, ()), request)
            files[f"{request.unit_folder}/{service.unit}"] = unit_text.encode()
        else:
            files[f"{request.unit_folder}/{path}"] = drop_ins[path].encode()
    files[request.manifest_path(has.package)] = manifest.dump(_manifest(request, has, services, files))
    return files


def chosen(request: ContentRequest, has: Contents) -> tuple[ServicePlan, ...]:
    """The services whose files go in."""
    if request.services == ALL:
        return request.plan.services
    if request.services == PRESENT:
        return tuple(item for item in request.plan.services if item.label in has.units or has.programs.get(item.label))
    return tuple(item for item in request.plan.services if item.label in request.services)


def _service_unit(service: ServicePlan, programs: Sequence[PackedProgram], request: ContentRequest) -> str:
    """The whole unit of a service that has none in the artifact; its program must be there exactly once.

    Raises ArtifactError (CGP306).
    """
    if len({program.sha256 for program in programs}) != 1:
        found = ", ".join(program.path for program in programs) or "no file of that name"
        raise unsupported(
            f"no unit can be written for {service.label}: the artifact contains {found}",
            Remedy(title=f"pack its program once, ship {service.unit} in the artifact, or set service_units = false"),
        )
    path = programs[0].path.removeprefix(f"{request.prefix}/") if request.prefix else programs[0].path
    system = request.layout == "system"
    return whole_service(
        request.plan, service, program=f"/{path}", user=request.user if system else "",
        target="multi-user.target" if system else "default.target",
    )  # fmt: skip


def _manifest(
    request: ContentRequest, has: Contents, services: tuple[ServicePlan, ...], files: Mapping[str, bytes]
) -> manifest.Manifest:
    return manifest.Manifest(
        project=request.plan.project,
        config_sha256=request.config_sha256,
        layout=request.layout,
        prefix=request.prefix,
        files=tuple(sorted((path, hashlib.sha256(data).hexdigest()) for path, data in files.items())),
        binaries=tuple(_binary(service, request.tested, has) for service in services),
        verdict=request.tested.verdict,
    )


def _binary(service: ServicePlan, tested: Tested, has: Contents) -> manifest.ManifestBinary:
    """The tested program in the artifact. Raises ArtifactError (CGP302) where it contains only another build."""
    digest = tested.binaries.get(service.label)
    programs = has.programs.get(service.label, ())
    if digest is None:
        return manifest.ManifestBinary(service=service.label, path=programs[0].path if programs else None, sha256=None)
    for program in programs:
        if program.sha256 == digest:
            return manifest.ManifestBinary(service=service.label, path=program.path, sha256=digest)
    if programs:
        raise other_binary(
            f"{programs[0].path} (sha256 {programs[0].sha256}) is not the program of {service.label} that was tested "
            f"(sha256 {digest})"
        )
    return manifest.ManifestBinary(service=service.label, path=None, sha256=digest)
