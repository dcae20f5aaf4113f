"""A whole service unit for an artifact that has none: exactly the command line that was smoke-tested. Pure."""

from collections.abc import Sequence
from typing import Protocol

from cgroup_preflight.artifacts.model import PackedProgram, unsupported
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.plan.model import ServicePlan


class Place(Protocol):
    """What of a request decides a service unit."""

    @property
    def layout(self) -> str:
        """`system` or `user`."""

    @property
    def prefix(self) -> str:
        """The folder of the artifact that is unpacked elsewhere."""

    @property
    def user(self) -> str:
        """Who runs it; empty for the manager's default."""


def service_unit(service: ServicePlan, drop_in: str, programs: Sequence[PackedProgram], place: Place) -> str:
    """The unit: ExecStart from the one program in the artifact and the tested arguments, the rest from the drop-in.

    `smoke.env` is not in it: it says how the service is tried; `Environment` of the service is in the drop-in.

    Raises ArtifactError (CGP306) where the artifact does not hold exactly one program of that name.
    """
    if len({program.sha256 for program in programs}) != 1:
        held = ", ".join(program.path for program in programs) or "no file of that name"
        raise unsupported(
            f"no unit can be written for {service.label}: the artifact holds {held}",
            Remedy(title=f"pack its program once, ship {service.unit} in the artifact, or set service_units = false"),
        )
    head, _, body = drop_in.partition("[Service]\n")
    path = programs[0].path.removeprefix(f"{place.prefix}/") if place.prefix else programs[0].path
    command = [f"/{path}", *service.smoke.args]
    lines = [
        head.rstrip("\n"),
        "",
        "[Unit]",
        f"Description={service.label}",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(_word(word) for word in command)}",
        *([f"User={place.user}"] if place.user and place.layout == "system" else []),
        "Restart=on-failure",
        body.rstrip("\n"),
        "",
        "[Install]",
        f"WantedBy={'multi-user' if place.layout == 'system' else 'default'}.target",
        "",
    ]
    return "\n".join(lines)


def _word(text: str) -> str:
    """One word of ExecStart=, quoted as systemd.service(5) and systemd.syntax(7) read it back."""
    escaped = text.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    escaped = "".join(char if char.isprintable() else _hex(char) for char in escaped)
    plain = escaped and all(char.isalnum() or char in "%+,-./:=@_$" for char in escaped)
    return escaped if plain else f'"{escaped}"'


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())
