"""Values of systemd.exec(5), systemd.service(5) and of limits per device, exactly as systemd spells them.

The parsers mirror `config_parse_*` of systemd (src/core/load-fragment.c). systemd ignores most values that it cannot
read, and the unit starts without them; here the same text raises `QuantityError` with the spelling that works.
"""

import re

from cgroup_preflight.core.quantities import QuantityError, parse_size
from cgroup_preflight.core.records import dataclass

#: What nothing has to quote or to double in a unit file. A specifier (%N) would be that of the unit of the run.
_PATH = r"/(?:[A-Za-z0-9_.,:@+~/-]*)"
_GLOB = r"/(?:[A-Za-z0-9_.,:@+~/*?\[\]-]*)"
_FOLDER = r"[A-Za-z0-9_.@+-]+(?:/[A-Za-z0-9_.@+-]+)*"
_USER_NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,30}"
_NUMBER = r"0|[1-9]\d{0,18}"
#: (uid_t) -1 and its 16 bits mean "no user" (systemd, uid_is_valid).
_NO_USERS = (65535, 4294967295)
_UID_MAX = 4294967294
_ULLONG_MAX = (1 << 64) - 1
#: systemd.service(5). A service on the bus has a name there, which only its own unit knows.
TYPES = ("simple", "exec", "forking", "oneshot", "notify", "notify-reload", "idle")
#: Types whose readiness systemd learns of.
TELLING = ("notify", "notify-reload", "forking", "dbus")
_YES = ("yes", "true", "on", "1", "y", "t")
_NO = ("no", "false", "off", "0", "n", "f")
#: linux/capability.h, in the order of their numbers.
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
#: sysexits(3) and exit(3), the names that systemd has for programs' own statuses (systemd.exec(5), "Process exit codes").
_STATUSES = frozenset(
    [
        "SUCCESS",
        "FAILURE",
        "USAGE",
        "DATAERR",
        "NOINPUT",
        "NOUSER",
        "NOHOST",
        "UNAVAILABLE",
        "SOFTWARE",
        "OSERR",
        "OSFILE",
        "CANTCREAT",
        "IOERR",
        "TEMPFAIL",
        "PROTOCOL",
        "NOPERM",
        "CONFIG",
    ]
)
#: signal(7)
_SIGNALS = frozenset(
    [
        "HUP",
        "INT",
        "QUIT",
        "ILL",
        "TRAP",
        "ABRT",
        "BUS",
        "FPE",
        "KILL",
        "USR1",
        "SEGV",
        "USR2",
        "PIPE",
        "ALRM",
        "TERM",
        "STKFLT",
        "CHLD",
        "CONT",
        "STOP",
        "TSTP",
        "TTIN",
        "TTOU",
        "URG",
        "XCPU",
        "XFSZ",
        "VTALRM",
        "PROF",
        "WINCH",
        "IO",
        "PWR",
        "SYS",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLimit:
    """A limit of one device: `amount` is in bytes or operations per second, None for no limit."""

    device: str
    amount: int | None


def is_user_name(text: str) -> bool:
    """Whether it is a name of a user or group, and no number (systemd, user-util.c; https://systemd.io/USER_NAMES)."""
    return re.fullmatch(_USER_NAME, text, re.ASCII) is not None


def parse_user(text: str) -> str:
    """A user or group by name or number (User=, Group=). Raises QuantityError."""
    hint = "a name such as shop (letters, digits, '_' and '-', at most 31), or its number"
    if text.isdigit():
        if not re.fullmatch(_NUMBER, text, re.ASCII) or int(text) > _UID_MAX or int(text) in _NO_USERS:
            raise QuantityError(f"{text!r} is not the number of a user or group", hint)
    elif not is_user_name(text):
        raise QuantityError(f"{text!r} is not the name of a user or group", hint)
    return text


def parse_working_directory(text: str) -> str:
    """An absolute path, or `~` for the home of the user; a `-` before it lets the path be absent. Raises QuantityError."""
    path = text.removeprefix("-")
    if path != "~":
        _require_path(path, _PATH, "an absolute path such as /var/lib/shop, or ~ for the home of User")
    return text


def parse_environment_file(text: str) -> str:
    """An absolute path, also a glob; a `-` before it lets the file be absent. Raises QuantityError."""
    path = text.removeprefix("-")
    _require_path(path, _GLOB, "an absolute path such as /etc/default/shop, with a - before it if it may be absent")
    return text


def _require_path(path: str, form: str, hint: str) -> None:
    if "%" in path:
        raise QuantityError(f"{path!r} has a specifier, which would be that of the unit of the run", hint)
    if not path.startswith("/"):
        raise QuantityError(f"{path!r} is not an absolute path", hint)
    if not re.fullmatch(form, path, re.ASCII) or {".", ".."}.intersection(path.split("/")):
        raise QuantityError(f"{path!r} is not a path that a unit file can have without quotes", hint)


def _words(text: str) -> list[str]:
    """The words between blanks. Other white space is none for a unit file, and makes no word that a parser knows."""
    return [word for word in text.split(" ") if word]


def parse_folders(text: str) -> str:
    """Folders below /var/lib and the like (StateDirectory= and its siblings), with blanks between. Raises QuantityError."""
    hint = "names such as shop or shop/data, relative, with blanks between"
    for word in _words(text):
        parts = word.split("/")
        if ":" in word:
            raise QuantityError(
                f"{word!r} asks for a link, which this key does not have", "a name, or a unit file with `unit`"
            )
        if not re.fullmatch(_FOLDER, word, re.ASCII) or {".", ".."}.intersection(parts):
            raise QuantityError(f"{word!r} is not the name of a folder", hint)
        if parts[0] == "private":  # systemd keeps those of DynamicUser= there
            raise QuantityError(f"{word!r} is below a folder that belongs to systemd", hint)
    return text


def parse_capabilities(text: str) -> str:
    """Names of capabilities(7), with blanks between; a `~` before them takes all others. Raises QuantityError."""
    for word in _words(text.removeprefix("~")):
        name = word.upper()
        if name in CAPABILITIES:
            raise QuantityError(f"{word!r} is not the name of a capability", f"CAP_{name}")
        if not name.startswith("CAP_") or name[4:] not in CAPABILITIES:
            raise QuantityError(f"{word!r} is not a capability", "names such as CAP_NET_BIND_SERVICE (capabilities(7))")
    return text


def parse_resource_limit(text: str) -> str:
    """`N`, `infinity` or `SOFT:HARD`, a number of files (systemd.exec(5), LimitNOFILE=). Raises QuantityError."""
    hint = "a whole number, infinity, or SOFT:HARD such as 1024:65536"
    parts = text.split(":")
    numbers = [_limit_number(part, hint) for part in parts]
    if len(parts) > 2:
        raise QuantityError(f"{text!r} is not a resource limit", hint)
    if len(parts) == 2 and numbers[0] > numbers[1]:
        raise QuantityError(f"{text!r}: the soft limit is above the hard one", f"{parts[1]}:{parts[0]}")
    return text


def _limit_number(text: str, hint: str) -> int:
    if text == "infinity":
        return _ULLONG_MAX
    if re.fullmatch(r"0\d+", text, re.ASCII):
        raise QuantityError(f"{text!r} has a leading zero, which systemd reads as octal", text.lstrip("0") or "0")
    if not re.fullmatch(_NUMBER, text, re.ASCII):
        raise QuantityError(
            f"{text!r} is not a number of files", "infinity" if text in ("unlimited", "max", "-1") else hint
        )
    return int(text)


def parse_type(text: str) -> str:
    """Type= of a service. Raises QuantityError."""
    if text == "dbus":
        raise QuantityError("'dbus' needs the name on the bus", "a unit file with BusName=, and `unit` in the config")
    if text not in TYPES:
        raise QuantityError(f"{text!r} is not a type of service", " or ".join(TYPES))
    return text


def parse_exit_statuses(text: str) -> str:
    """Statuses from 0 to 255, names of statuses, and signals, with blanks between. Raises QuantityError."""
    for word in _words(text):
        known = word in _STATUSES or (word.removeprefix("SIG") in _SIGNALS and word.startswith("SIG"))
        if word.isdigit():
            known = bool(re.fullmatch(_NUMBER, word, re.ASCII)) and int(word) <= 255
        if not known:
            hint = "numbers from 0 to 255, names such as TEMPFAIL, signals such as SIGKILL"
            raise QuantityError(f"{word!r} is not an exit status", f"SIG{word}" if word in _SIGNALS else hint)
    return text


def parse_switch(text: str) -> int:
    """A boolean of systemd.syntax(7) as 1 or 0. Raises QuantityError."""
    if text in _YES:
        return 1
    if text in _NO:
        return 0
    raise QuantityError(f"{text!r} is not a boolean", "yes or no")


def is_yes(text: str) -> bool:
    """Whether a unit file turns a setting on with it; systemd reads booleans of unit files in any case."""
    return text.lower() in _YES


def is_no(text: str) -> bool:
    """Whether a unit file turns a setting off with it."""
    return text.lower() in _NO


def parse_count(text: str) -> int | str:
    """A whole number of units above 0, or `infinity`. Raises QuantityError."""
    if text == "infinity":
        return text
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise QuantityError(f"{text!r} is not a number of units", "a whole number above 0, or infinity")
    return int(text)


def parse_device_limit(text: str) -> str:
    """`DEVICE AMOUNT`: a path and an amount per second with K, M, G or T to the base of 1000. Raises QuantityError."""
    device_limit(text)
    return " ".join(text.split())


def device_limit(text: str) -> DeviceLimit:
    """The parts of `DEVICE AMOUNT`. Raises QuantityError."""
    hint = "a path and an amount, such as /dev/sda 5M"
    device, _, amount = text.strip().partition(" ")
    if not amount.strip():
        raise QuantityError(f"{text!r} is not a device and an amount", hint)
    _require_path(device, _PATH, hint)
    if amount.strip() == "infinity":
        return DeviceLimit(device=device, amount=None)
    number = parse_size(amount.strip(), base=1000).bytes
    if number == 0:
        raise QuantityError(f"{text!r} is out of range: systemd ignores a limit of zero", hint)
    return DeviceLimit(device=device, amount=number)
