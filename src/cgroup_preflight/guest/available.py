"""Whether this host can boot the guest of a config; nothing is built or started."""

from collections.abc import Mapping
from pathlib import Path

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
    if distro not in SUITES and config is not None:
        from cgroup_preflight.guest import foreign

        foreign.refuse(config.target, distro)
    engine = GuestEngine.UML
    if config is not None:
        required = requirements_of(config)
        machine = choose_machine(required, config.target.machine, host_capacity())
        what, instead = required.impossible(machine)
        if what:
            raise HostError(what, remedy=Remedy(title=instead))
        engine = machine.engine
    if distro not in SUITES:
        tools.require(_for_imported(engine, config.target.kernel if config is not None else "", folder))
        return engine
    recipe = recipe_of(config, distro, engine) if config is not None else recipe_for(distro, with_kernel=False)
    tools.require(image.needed_programs(recipe, folder, programs_of(engine)))
    return engine


def _for_imported(engine: GuestEngine, kernel: str, folder: Path) -> tuple[str, ...]:
    """What this host must have for an imported root, whose kernel is user-mode-linux or from an image of this tool."""
    if engine is GuestEngine.QEMU:
        from cgroup_preflight.guest.foreign_kernel import kernel_recipe

        return image.needed_programs(kernel_recipe(kernel), folder, programs_of(engine))
    return tuple(name for name in programs_of(engine) if name != uml.PROGRAM or uml_kernel.found_in(folder) is None)


def programs_of(engine: GuestEngine) -> tuple[str, ...]:
    """The programs of this host that run a guest."""
    return (PROGRAMS[engine], DISK_MAKER)


def recipe_of(config: Config, distro: str, engine: GuestEngine) -> Recipe:
    """The image for the services of a config."""
    target = config.target
    return recipe_for(
        distro, with_kernel=engine is GuestEngine.QEMU, packages=target.packages, kernel=target.kernel
    )  # fmt: skip
