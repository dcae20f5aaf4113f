"""Every table and key of the config. The loader and the JSON Schema both follow from it."""

import re
import warnings
from collections.abc import Callable, Mapping

from cgroup_preflight.config import DEFAULT_CONTROLLERS
from cgroup_preflight.config.key import Key, Section
from cgroup_preflight.config.model import (
    AUTO_PREFIX,
    CONTROLLERS,
    GOMEMLIMIT_RATIO,
    ReadyKind,
    ReadyTest,
    Smoke,
    Target,
)
from cgroup_preflight.config.policy_keys import POLICY_SECTIONS, THRESHOLDS
from cgroup_preflight.config.properties import PROPERTIES, Role
from cgroup_preflight.config.rollout_keys import rollout_sections
from cgroup_preflight.core import quantities as q
from cgroup_preflight.core.globs import parse as parse_glob

#: The characters of a unit name (systemd.unit(5)) without those that have a meaning of their own: `@`, `\\`, `:`.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*(?:-[A-Za-z0-9_.]+)*", re.ASCII)
NAME_MAX = 100
#: The types of units (systemd.unit(5)): a name with such a suffix would be that of another unit.
UNIT_TYPES = ("service", "slice", "scope", "socket", "target", "timer", "mount", "automount", "swap", "path", "device")
#: Slices that belong to systemd (systemd.special(7)), with those below them.
SYSTEMD_SLICES = ("system", "user", "machine", "init")
#: The name of a package (Debian Policy, 5.6.7); longer ones do not exist. apt-get(8) removes one with a hyphen at its end.
PACKAGE = r"[a-z0-9][a-z0-9+.-]{0,98}[a-z0-9+.]"
#: Bytes.
_GUEST_MEMORY = (256 << 20, 64 << 30)
ENGINES = ("auto", "systemd", "user", "cgroupfs", "guest")
#: The systems of the built-in guest (`guest.recipe.SUITES`), and what can run it.
DISTROS = ("debian-12", "debian-13", "debian-14")
#: Names of imported roots (`guest.foreign.NAME`).
_IMPORTED, _IMPORTED_MAX = r"[a-z][a-z0-9]*(?:[.-][a-z0-9]+){0,6}", 40
#: Kernels of a guest besides that of its distribution.
KERNELS = ("backports",)
_MACHINES = ("auto", "uml", "qemu")
#: The properties that [require] limits can name.
_LIMITS = tuple(item.name for item in PROPERTIES if item.role in (Role.LIMIT, Role.PLACEMENT))


def parse_name(text: str) -> str:
    """A slice or service name, which needs no escape in a unit name. Raises QuantityError."""
    hint = f"letters, digits, '_', '.' and single '-' between them, at most {NAME_MAX} characters"
    if len(text) > NAME_MAX:
        raise q.QuantityError(f"the name has {len(text)} characters, which is too long", hint)
    if not NAME.fullmatch(text) or ".." in text:
        raise q.QuantityError(f"{text!r} is not a name", hint)
    return text


def parse_unit_name(text: str) -> str:
    """A name without the suffix of a unit: `api.service` would become api.service.service.

    Raises QuantityError.
    """
    head, _, end = parse_name(text).rpartition(".")
    if head and end in UNIT_TYPES:
        raise q.QuantityError(f"{text!r} ends in .{end}, and this tool adds the suffix of the unit", head)
    return text


def parse_slice_name(text: str) -> str:
    """The name of a slice that is not one of systemd's own. Raises QuantityError."""
    if text.removesuffix(".slice").partition("-")[0] in SYSTEMD_SLICES:
        raise q.QuantityError(
            f"{text!r} would be in a slice that belongs to systemd", "a name of your own, such as api"
        )
    return parse_unit_name(text)


def parse_slice_of_service(text: str) -> str:
    """The name of a declared slice: one of systemd's own cannot be declared. Raises QuantityError."""
    if text.removesuffix(".slice").partition("-")[0] in SYSTEMD_SLICES:
        raise q.QuantityError(
            f"{text!r} belongs to systemd, and this tool sets no limits there",
            'a slice of your own, [slices.api] and slice = "api", or remove the line: a service without a slice is '
            "limited by its own keys alone",
        )
    return parse_unit_name(text)


def parse_ready(text: str) -> ReadyTest:
    """One of the readiness tests that the message at the end lists. Raises QuantityError."""
    if text in ("exit", "notify"):
        return ReadyTest(kind=ReadyKind(text))
    if text.startswith("log:"):
        try:
            with warnings.catch_warnings():
                # Python would print a warning about a doubtful pattern, with a line of this file.
                warnings.simplefilter("ignore")
                re.compile(text[4:])
        except (re.error, RecursionError, OverflowError) as error:
            raise q.QuantityError(f"{text[4:]!r} is not a regular expression: {error}", "log:REGEX") from None
        return ReadyTest(kind=ReadyKind.LOG, target=text[4:])
    if re.fullmatch(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/@?#\\\[\]:]+)(:\d{1,5})?(?:[/?][!-~]*)?", text, re.ASCII):
        return ReadyTest(kind=ReadyKind.HTTP, target=text)
    if re.fullmatch(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}", text, re.ASCII):
        return ReadyTest(kind=ReadyKind.TCP, target=text.removeprefix("tcp://"))
    if re.fullmatch(r"grpc://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}(/[A-Za-z0-9_./-]{0,200})?", text, re.ASCII):
        return ReadyTest(kind=ReadyKind.GRPC, target=text)
    # A path as the service names it to bind(2): at most 107 bytes (unix(7)), and not spelled like a URL.
    if re.fullmatch(r"unix:(/(?!/)|@)[!-~]{1,106}", text, re.ASCII):
        return ReadyTest(kind=ReadyKind.UNIX, target=text.removeprefix("unix:"))
    raise q.QuantityError(
        f"{text!r} is not a readiness test",
        "http://127.0.0.1:PORT/PATH, https://127.0.0.1:PORT/PATH, grpc://127.0.0.1:PORT, tcp://127.0.0.1:PORT, unix:/PATH, "
        "log:REGEX, notify or exit",
    )


def _seconds(text: str) -> float:
    seconds = q.parse_span(text) / 1e6
    if seconds > 3600:
        raise q.QuantityError(f"{text!r} is too long", "at most 1h")
    return seconds


def _timeout(text: str) -> float:
    seconds = _seconds(text)
    if seconds < 0.1:
        raise q.QuantityError(f"{text!r} is too short", "at least 100ms")
    return seconds


def _specifier(text: str) -> str:
    from cgroup_preflight.core import versions

    try:
        return versions.canonical(text)
    except ValueError:
        raise q.QuantityError(f"{text!r} is not a version specifier", ">=249 or >=249,<258") from None


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise q.QuantityError(f"{text!r} is not one of the allowed words", " or ".join(words))
        return text

    return parse


def _distro(text: str) -> str:
    """A distribution, or a name that `guest import` takes (`guest.foreign`); whether there is such a root, a run tells."""
    if text not in DISTROS and (not re.fullmatch(_IMPORTED, text, re.ASCII) or len(text) > _IMPORTED_MAX):
        words = f"{' or '.join(DISTROS)}, or the name of a root that you imported with guest import"
        raise q.QuantityError(f"{text!r} is not one of the allowed words", words)
    return text


def _ratio(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise q.QuantityError(f"{text!r} is not a share", "a number above 0 and not above 1, such as 0.9")
    return share


def _path(text: str) -> str:
    if not text or any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise q.QuantityError(f"{text!r} is not a path", "a path relative to the folder of the config")
    return text


def parse_prefix(text: str) -> str:
    """A folder in an artifact: relative, without a slash at the end. Raises QuantityError."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith("/") or ".." in parts or any(ord(char) < 33 or ord(char) > 126 for char in text):
        raise q.QuantityError(f"{text!r} is not a folder in an artifact", "a relative folder, such as shop-1.2")
    return "/".join(parts)


def _glob(text: str) -> str:
    return parse_glob(text).text


def _input_glob(text: str) -> str:
    if text.startswith("/") or ".." in text.split("/"):
        raise q.QuantityError(
            f"{text!r} is outside the folder of the config", "a glob below that folder, such as etc/*.yaml"
        )
    if text.endswith("/"):
        raise q.QuantityError(f"{text!r} is a folder, and only files are copied", f"{text.rstrip('/')}/**")
    return _glob(text)


def parse_guest_path(text: str) -> str:
    """A path in the guest that a file or folder of the project is to have. Raises QuantityError."""
    parts = text.split("/")
    if not text.startswith("/") or ".." in parts or "." in parts or "" in parts[1:]:
        raise q.QuantityError(f"{text!r} is not an absolute path", "a path such as /etc/app, without . and ..")
    if parts[1] in _GUESTS_OWN or text == "/run/preflight" or text.startswith("/run/preflight/"):
        raise q.QuantityError(f"{text!r} belongs to the guest's system", "another folder, such as /etc/app or /srv")
    return _path(text)


#: Folders of the guest that the kernel fills.
_GUESTS_OWN = ("proc", "sys", "dev")


def _input_path(text: str) -> str:
    if text.startswith("/") or ".." in text.split("/"):
        raise q.QuantityError(
            f"{text!r} is outside the folder of the config", "a file or folder below that folder, such as deploy/etc"
        )
    return _path(text)


def _unit_path(text: str) -> str:
    name = _path(text).rpartition("/")[2]
    if not name.endswith(".service") or not re.fullmatch(r"[A-Za-z0-9:_.@\\-]{1,255}", name, re.ASCII):
        raise q.QuantityError(f"{text!r} is not the file of a service unit", "a file such as deploy/user-api.service")
    return text


def _instance(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:_.\\-]{1,100}", text, re.ASCII):
        raise q.QuantityError(
            f"{text!r} is not the name of an instance", "letters, digits and : _ . - (systemd-escape makes one)"
        )
    return text


def parse_package(text: str) -> str:
    """The name of a Debian package (Debian Policy, 5.6.7). Raises QuantityError."""
    name, colon, architecture = text.partition(":")
    if colon and architecture not in ("amd64", "all"):
        raise q.QuantityError(
            f"{text!r} is a package of another architecture: guests are amd64", f"{name or 'its name'}"
        )
    if not re.fullmatch(PACKAGE, name, re.ASCII):
        raise q.QuantityError(f"{text!r} is not the name of a package", "a name such as redis-server")
    return name


def _guest_memory(text: str) -> q.Size:
    size = q.parse_size(text)
    if not _GUEST_MEMORY[0] <= size.bytes <= _GUEST_MEMORY[1]:
        raise q.QuantityError(f"{text!r} is not the memory of a guest", "a size from 256M to 64G, such as 1G")
    return size


def _guest_cpus(text: str) -> int:
    if not re.fullmatch(r"[1-9]|1[0-6]", text, re.ASCII):
        raise q.QuantityError(f"{text!r} is not a number of CPUs of a guest", "a whole number from 1 to 16")
    return int(text)


def _user(text: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", text, re.ASCII):
        raise q.QuantityError(f"{text!r} is not the name of a user", "the name of a system user, such as shop")
    return text


def _text(text: str) -> str:
    if "\0" in text:
        raise q.QuantityError("a program cannot get a NUL character", "text without NUL")
    return text


def _property_keys(section: str) -> tuple[Key, ...]:
    return tuple(
        Key(name=item.name, kind=item.kind, doc=item.doc, parse=item.parse, is_property=True,
            examples=(item.example,), schema=item.shape)
        for item in PROPERTIES
        if section in item.sections
    )  # fmt: skip


#: By the path of the table, `*` for a name: `[services.user-api.smoke]` is `services.*.smoke`.
SECTIONS: Mapping[str, Section] = {
    "project": Section(doc="What this config belongs to.", keys=(
        Key(name="name", kind="string", doc="Name of the project.", parse=parse_name, required=True, examples=("shop",)),
    )),
    "require": Section(doc="What every host must offer, and every service must have.", keys=(
        Key(name="controllers", kind="strings", doc="Controllers that every host must offer.", parse=_one_of(*CONTROLLERS),
            default=list(DEFAULT_CONTROLLERS), examples=(list(CONTROLLERS[:2]),),
            schema={"items": {"enum": list(CONTROLLERS)}}),
        Key(name="systemd", kind="string", doc="systemd versions accepted, such as >=249.", parse=_specifier,
            examples=(">=249",)),
        Key(name="kernel", kind="string", doc="Kernel versions accepted, such as >=5.15.", parse=_specifier,
            examples=(">=5.15",)),
        Key(name="limits", kind="strings", doc="Limits that every service must have, itself or by a slice above it.",
            parse=_one_of(*_LIMITS), examples=(["MemoryMax", "CPUQuota"],), schema={"items": {"enum": list(_LIMITS)}}),
    )),
    **POLICY_SECTIONS,
    "smoke": Section(doc="How the services are tested.", keys=(
        Key(name="engine", kind="string", doc="Who starts the units; auto takes systemd, else your own manager, else a delegated "
            "cgroup, else a guest.", parse=_one_of(*ENGINES), default="auto", schema={"enum": list(ENGINES)}),
        Key(name="allow_remote_ready", kind="bool", doc="Allow readiness addresses outside this machine.", default=False),
        Key(name="allow_tiny_limits", kind="bool", doc="Allow MemoryMax and MemoryHigh below 16M.", default=False),
    )),
    "target": Section(doc="The guest (a VM) in which the services are tested.", keys=(
        Key(name="distro", kind="string", doc="Test the services in a guest with this system, whatever this host is: a distribution, "
            "or the name of a root that you imported.",
            parse=_distro, examples=DISTROS,
            schema={"anyOf": [{"enum": list(DISTROS)}, {"pattern": f"^{_IMPORTED}$", "maxLength": _IMPORTED_MAX}]}),
        Key(name="machine", kind="string", doc="What runs the guest; auto takes user-mode-linux unless something needs "
            "QEMU: a CPUQuota of 100% or more, AllowedCPUs, AllowedMemoryNodes, cpuset in [require], ManagedOOM, cpus above 1, "
            "kernel, network, or an IPv6 address.", parse=_one_of(*_MACHINES), default="auto",
            schema={"enum": list(_MACHINES)}),
        Key(name="kernel", kind="string", doc="A newer kernel than the distribution's own, in QEMU: debian-13 has one from "
            "Debian's backports.", parse=_one_of(*KERNELS), schema={"enum": list(KERNELS)}, examples=("backports",)),
        Key(name="files", kind="strings", doc="Globs of the files, other than the binaries, that services need in the "
            "guest.", parse=_input_glob, examples=(["etc/*.yaml", "static/**"],)),
        Key(name="paths", kind="paths", doc="Files and folders of the project that have an absolute path in the guest.",
            parse=_input_path, examples=({"/etc/app": "deploy/etc"},)),
        Key(name="packages", kind="strings", doc="Packages of the distribution that are installed in the guest, with what "
            "they depend on.", parse=parse_package, examples=(["redis-server"],),
            schema={"items": {"type": "string", "pattern": f"^{PACKAGE}(:amd64|:all)?$"}}),
        Key(name="memory", kind="quantity", doc="The memory of the guest; without it, the limits decide.",
            parse=_guest_memory, examples=("1G",),
            schema={"type": ["string", "integer"], "minimum": _GUEST_MEMORY[0], "maximum": _GUEST_MEMORY[1]}),
        Key(name="cpus", kind="quantity", doc="The CPUs of the guest; more than one needs QEMU.", parse=_guest_cpus,
            examples=(2,), schema={"type": ["string", "integer"], "minimum": 1, "maximum": 16, "pattern": "^([1-9]|1[0-6])$"}),
        Key(name="network", kind="bool", doc="Let services in the guest reach what this machine reaches: the network, and "
            "what listens on its own loopback.", default=False),
        Key(name="install_timeout", kind="span", doc="Time that packages may take for one step: installation, upgrade, "
            "removal.", parse=_timeout, default=f"{Target().install_timeout:g}s", examples=("2min",),
            schema={"minimum": 1}),
    )),
    "artifacts": Section(doc="Build artifacts.", keys=(
        Key(name="inject", kind="strings", doc="Globs of artifacts that get the unit files.", parse=_glob,
            examples=(["dist/*.tar.gz", "dist/*.deb"],)),
        Key(name="layout", kind="string", doc="Units of the system manager, or of users' managers.",
            parse=_one_of("system", "user"), default="system", schema={"enum": ["system", "user"]}),
        Key(name="prefix", kind="string", doc="Folder in the artifacts that is unpacked to /; auto takes the one folder that "
            "all of an archive is in.", parse=parse_prefix, default=AUTO_PREFIX, examples=("shop-1.2",)),
        Key(name="services", kind="string", doc="Files of those services whose program or unit is in the artifact, or of "
            "all.", parse=_one_of("all", "present"), default="present", schema={"enum": ["all", "present"]}),
        Key(name="service_units", kind="bool", doc="Write a whole unit for a service that has none in the artifact: "
            "its program, the arguments of its smoke run, its limits.", default=False),
        Key(name="user", kind="string", doc="The user that services of such units run as; root without it.", parse=_user,
            examples=("shop",)),
        Key(name="rewrite_checksums", kind="bool", doc="Correct the checksum files next to the artifacts; signatures are "
            "never changed.", default=False),
    )),
    "slices.*": Section(
        doc="One slice: limits that everything in it shares. Dashes in its name nest: a-b lies in a.", keys=_property_keys("Slice")
    ),
    "services.*": Section(doc="One program, its slice and its limits, spelled as systemd spells them.", keys=(
        Key(name="binary", kind="string", doc="The program, relative to this file. With `unit`, the file that takes the "
            "place of the path in ExecStart.", parse=_path, examples=("dist/user-api",),
            schema={"minLength": 1, "pattern": r"^[^\u0000-\u001f\u007f]+$"}),
        Key(name="unit", kind="string", doc="The service's own unit: a file relative to this file (with a slash, ./x.service), or "
            "without a slash the name of a unit that the machine has installed. A run starts a copy of it with its "
            "drop-ins, and with the socket unit of the same name.", parse=_unit_path,
            examples=("deploy/user-api.service", "redis-server.service")),
        Key(name="package", kind="string", doc="The built package (deb, tar) that the service is installed from in a guest, "
            "relative to this file. `unit` is then the name of a unit in it.", parse=_path,
            examples=("dist/user-api_1.2.3_amd64.deb",)),
        Key(name="build", kind="strings", doc="The command with which `up` builds the program, run in `build_folder`.",
            parse=_text, examples=(["go", "build", "-o", "dist/user-api", "./cmd/user-api"],)),
        Key(name="build_folder", kind="string", doc="The folder of `build`, relative to this file.", parse=_input_path, default=".", examples=("api",)),
        Key(name="previous", kind="string", doc="The package before `package`: the run upgrades from it.", parse=_path,
            examples=("dist/user-api_1.2.2_amd64.deb",)),
        Key(name="instance", kind="string", doc="The instance of a template (`unit` is NAME@.service).", parse=_instance,
            examples=("blue",)),
        Key(name="slice", kind="string", doc="The slice it runs in, one of [slices].", parse=parse_slice_of_service,
            examples=("api",)),
        *_property_keys("Service"),
        Key(name="Environment", kind="map", doc="Environment of the service, for its drop-in and for the smoke run.",
            parse=_text, examples=({"GOGC": "50"},)),
        Key(name="go_settings", kind="bool", doc="Whether a Go program gets the settings that make its runtime fit "
            "the limits. What Environment or smoke.env sets stays as it is.", default=True),
        Key(name="gomemlimit_ratio", kind="ratio", doc="GOMEMLIMIT as a share of the memory limit, 0.9 by default.",
            parse=_ratio, default=GOMEMLIMIT_RATIO, examples=(0.9,)),
    )),
    "services.*.policy": Section(doc="What a run warns of, for this service.", keys=THRESHOLDS),
    "services.*.smoke": Section(doc="How this service is tested.", keys=(
        Key(name="args", kind="strings", doc="Arguments of the program.", parse=_text, examples=(["--port=8081"],)),
        Key(name="env", kind="map", doc="Environment of the program.", parse=_text, examples=({"LOG_LEVEL": "debug"},)),
        Key(name="ready", kind="string", doc="How the service shows that it is ready. A socket must be the service's own; `unix:@NAME` is an abstract one.", parse=parse_ready,
            examples=("http://127.0.0.1:8080/healthz", "https://localhost:8443/healthz", "grpc://127.0.0.1:50051", "tcp://127.0.0.1:8080", "unix:/run/app.sock", "log:ready", "notify", "exit")),
        Key(name="ready_ca", kind="string", doc="The certificates (a PEM file, relative to this file) that a service with an https:// "
            "address is checked against; those of the system without it.", parse=_input_path, examples=("certs/ca.pem",)),
        Key(name="duration", kind="span", doc="How long it runs under its limits.", parse=_seconds,
            default=f"{Smoke().duration:g}s", examples=("5s",)),
        Key(name="start_timeout", kind="span", doc="Time to become ready; it counts slower while no CPU is idle and other services start.", parse=_timeout,
            default=f"{Smoke().start_timeout:g}s", examples=("30s",), schema={"minimum": 1}),
        Key(name="stop_timeout", kind="span", doc="Time to stop after SIGTERM; it counts as that of a start.", parse=_timeout,
            default=f"{Smoke().stop_timeout:g}s", examples=("10s",), schema={"minimum": 1}),
    )),
    **rollout_sections(_property_keys("Slice"), parse_slice_name),
}  # fmt: skip
