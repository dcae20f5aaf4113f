"""Whether this host can boot the guest of a config; nothing is built or started."""

from collections.abc import Mapping

from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import image, tools, uml, uml_kernel
from cgroup_preflight.guest.capacity import host_capacity
from cgroup_preflight.guest.input_disk import PROGRAM as DISK_MAKER
from cgroup_preflight.guest.machine import PROGRAMS
from cgroup_preflight.guest.recipe import SUITES, Recipe, recipe_for
from cgroup_preflight.guest.requirements import choose_machine, requirements_of
from cgroup_preflight.guest.spec import GuestEngine


def require_guest(config: Config | None, distro: str, environment: Mapping[str, str]) -> GuestEngine:
    """What would run the guest for a config (None: for any small one).

    Raises HostError where a program is missing, or the limits need another machine; UsageError for what an imported root
    cannot do.
    """
    folder = image.cache_folder(environment)
    if distro not in SUITES:
        if config is not None:
            from cgroup_preflight.guest import foreign

            foreign.refuse(config.target, distro)
        tools.require(
            [
                name
                for name in programs_of(GuestEngine.UML)
                if name != uml.PROGRAM or uml_kernel.found_in(folder) is None
            ]
        )
        return GuestEngine.UML
    engine = GuestEngine.UML
    if config is not None:
        required = requirements_of(config)
        machine = choose_machine(required, config.target.machine, host_capacity())
        what, instead = required.impossible(machine)
        if what:
            raise HostError(what, remedy=Remedy(title=instead))
        engine = machine.engine
    recipe = recipe_of(config, distro, engine) if config is not None else recipe_for(distro, with_kernel=False)
    tools.require(image.needed_programs(recipe, folder, programs_of(engine)))
    return engine


def programs_of(engine: GuestEngine) -> tuple[str, ...]:
    """The programs of this host that run a guest."""
    return (PROGRAMS[engine], DISK_MAKER)


def recipe_of(config: Config, distro: str, engine: GuestEngine) -> Recipe:
    """The image for the services of a config."""
    target = config.target
    return recipe_for(
        distro, with_kernel=engine is GuestEngine.QEMU, packages=target.packages, kernel=target.kernel
    )  # fmt: skip
