"""What Go code listens on, from the calls that open a listener and the flags that name its address. Pure; hostile text.

A port counts only where the code leaves no doubt: an address that reaches the call as a literal, or as a name that
is set once in the file. An address that a dialer, a test or a message has is not taken for one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HOST = r"(?:127\.0\.0\.1|localhost|0\.0\.0\.0|\[::1?\])?"
_ADDRESS = re.compile(rf'["`]{_HOST}:(\d{{1,5}})["`]', re.ASCII)
_ARGUMENT = r"([^,()\n]{1,200})"
#: Calls with the address that they open; http.Server has it as a field.
_CALLS = (
    ("HTTP", re.compile(rf"\b(?:http|fasthttp)\.ListenAndServe(?:TLS)?\(\s*{_ARGUMENT}")),
    ("TCP", re.compile(rf'\b(?:net|tls)\.Listen\(\s*"tcp[46]?"\s*,\s*{_ARGUMENT}')),
    ("TCP", re.compile(rf'\.Listen\(\s*\w{{1,40}}\s*,\s*"tcp[46]?"\s*,\s*{_ARGUMENT}', re.ASCII)),
    ("HTTP", re.compile(rf'\.(?:Run|Start|Listen)\(\s*((["`]){_HOST}:\d{{1,5}}\2)', re.ASCII)),
)  # fmt: skip
_SERVER = re.compile(r"\bhttp\.Server\s*\{")
_FIELD = re.compile(r"\bAddr:\s*([^,}\n]{1,200})")
_SERVER_CHARS = 1000
#: Calls that serve, whatever the address.
_SERVES = (
    ("gRPC", re.compile(r"\bgrpc\.NewServer\(")),
    ("HTTP", re.compile(r"\b(?:http|fasthttp|web)\.(?:Serve|ServeTLS|ListenAndServe\w{0,10})\(|\bhttp\.Server\s*\{")),
    ("HTTP", re.compile(r"\b(?:gin\.(?:Default|New)|echo\.New|fiber\.New|iris\.(?:Default|New))\(")),
    ("TCP", re.compile(r"\.ListenAndServe\w{0,10}\(|\bnet\.Listen(?:TCP|UDP|Packet|Config)\b|\bactivation\.Listeners\(")),
)  # fmt: skip
_FLAG_NAME = r'"(?:(?:web|https?|server|grpc|api)[.-])?(?:listen|bind|addr|address|port|listen[.-]?addr(?:ess)?)"'
#: flag, pflag (`VarP` has a letter), kingpin, and the toolkit of Prometheus exporters.
_FLAGS = (
    re.compile(rf'\b(?:String|StringVar|StringP|StringVarP)\((?:\s*&[\w.]{{1,80}},)?\s*{_FLAG_NAME},(?:\s*"\w?",)?\s*'
               r'"(?:0\.0\.0\.0|\[::\])?:(\d{1,5})"', re.ASCII),
    re.compile(r'\b(?:Int|IntVar|IntP|IntVarP|Uint|UintVar)\((?:\s*&[\w.]{1,80},)?\s*"'
               r'(?:(?:web|https?|server|grpc|api|listen)[.-]?)?[pP]ort",(?:\s*"\w?",)?\s*(\d{2,5})\b', re.ASCII),
    re.compile(rf'\bFlag\(\s*{_FLAG_NAME},[^()\n]{{0,300}}\)\s*\.\s*Default\(\s*"(?:0\.0\.0\.0|\[::\])?:(\d{{1,5}})"', re.ASCII),
    re.compile(r'\bAddFlags\(\s*[\w.]{1,80},\s*":(\d{1,5})"', re.ASCII),
)  # fmt: skip
#: Commands below the program's own: cobra, kingpin, urfave/cli. Without one of them it opens nothing.
_COMMANDS = re.compile(r'\.AddCommand\(|(?<!\bexec)\.Command\(\s*"|\bcli\.Command\s*\{')
#: What a program does that runs until it is told to stop.
_RUNS = re.compile(r"\bSIGTERM\b|\btime\.(?:NewTicker|Tick)\(|\bselect\s*\{\s*\}")
#: A loop without end; one that sleeps is no reader of a file.
_LOOPS = re.compile(r"\bfor\s*\{")
_CALLS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """What one file serves ("HTTP", "gRPC", "TCP"), and where: `ports` of its calls, `flags` by default.

    `unknown` counts the calls whose address it does not tell. `runs`: it waits for a signal, for a timer, or forever.
    `commands`: the program has commands of its own.
    """

    serves: frozenset[str] = frozenset()
    ports: tuple[int, ...] = ()
    flags: tuple[int, ...] = ()
    unknown: int = 0
    runs: bool = False
    commands: bool = False


NOTHING = Listening()


def listening(code: str) -> Listening:
    """What the code of one file does; comments must be gone from it."""
    serves = {kind for kind, pattern in _SERVES if pattern.search(code)}
    ports: list[int] = []
    unknown = 0
    for kind, argument in _arguments(code):
        port = _port(argument, code)
        if port != 0:  # ":0" is any free port, as a test takes it
            serves.add(kind)
        if port is None:
            unknown += 1
        elif port:
            ports.append(port)
    flags = [int(text) for pattern in _FLAGS for text in pattern.findall(code)]
    return Listening(
        serves=frozenset(serves), ports=_valid(ports), flags=_valid(flags), unknown=unknown,
        runs=_RUNS.search(code) is not None or ("time.Sleep(" in code and _LOOPS.search(code) is not None),
        commands=_COMMANDS.search(code) is not None,
    )  # fmt: skip


def sure_port(found: list[Listening]) -> int | None:
    """The one port that a program of these files opens without options; None if it is not known, or not the only one."""
    ports = {port for item in found for port in item.ports}
    flags = {port for item in found for port in item.flags}
    unknown = sum(item.unknown for item in found)
    # A flag tells the address of one call that does not.
    if len(ports | flags) != 1 or unknown > len(flags) or any(item.commands for item in found):
        return None
    return next(iter(ports | flags))


def _valid(ports: list[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(port for port in ports if 1 <= port <= 65535))


def _arguments(code: str) -> Iterator[tuple[str, str]]:
    for kind, pattern in _CALLS:
        for match, _ in zip(pattern.finditer(code), range(_CALLS_MAX), strict=False):
            yield kind, match[1]
    for match, _ in zip(_SERVER.finditer(code), range(_CALLS_MAX), strict=False):
        field = _FIELD.search(code, match.end(), match.end() + _SERVER_CHARS)
        if field:
            yield "HTTP", field[1]


def _port(argument: str, code: str) -> int | None:
    """The port of an address in Go: a literal, a name, or `":" + name`; None if that is not known."""
    text = argument.strip()
    match = _ADDRESS.fullmatch(text)
    if match:
        return int(match[1])
    name = re.fullmatch(r'(":"\s*\+\s*)?([A-Za-z_]\w{0,60})', text, re.ASCII)
    return _named_port(name[2], code, colon=name[1] is None) if name else None


def _named_port(name: str, code: str, *, colon: bool) -> int | None:
    """The port in a name of this file, if all that is assigned to it is one literal, or a variable of the environment.

    `colon`: the name holds ":8080", not "8080".
    """
    ports = set()
    for value in re.findall(rf"\b{name}\s*(?:string\s*)?:?=(?!=)\s*([^\n;]{{1,200}})", code, re.ASCII):
        match = re.match(rf'"{_HOST + ":" if colon else ""}(\d{{1,5}})"\s*\)?$', value.strip(), re.ASCII)
        if match:
            ports.add(int(match[1]))
        elif not value.startswith("os.Getenv("):
            return None
    return ports.pop() if len(ports) == 1 else None
