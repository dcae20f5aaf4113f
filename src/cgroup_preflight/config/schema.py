"""JSON Schema (2020-12) of the config, from `keys.SECTIONS`: for editors (Taplo, Even Better TOML) and reviews.

Whatever the loader takes is valid here; of what the loader refuses, the schema finds what an expression can
find. Patterns have no look-around, since Taplo reads names of `patternProperties` with an engine without it.
"""

from collections.abc import Iterable

from cgroup_preflight.config.keys import NAME_MAX, SECTIONS, UNIT_TYPES, Key, parse_name, parse_ready, parse_unit_name
from cgroup_preflight.config.model import CONTROLLERS, GOMEMLIMIT_RATIO, Require, Smoke
from cgroup_preflight.config.properties import SHAPES, SPAN, Schema

_NAME = "^[A-Za-z0-9][A-Za-z0-9_.]*(-[A-Za-z0-9_.]+)*$"
#: What no name may have; Python's `$` would let a last newline pass.
_NOT_IN_NAME = r"\.\.|[^A-Za-z0-9_.-]"
_NOT_IN_UNIT = rf"{_NOT_IN_NAME}|\.({'|'.join(UNIT_TYPES)})$"
_NOT_IN_SLICE = rf"{_NOT_IN_UNIT}|^(system|user|machine|init)$|^user-"
_READY = r"^(https?://[^\s/@?#\\]+([/?][!-~]*)?|tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}|log:[\s\S]*|exit)$"
_TEXT_MAX = 4096

_ABOUT = {
    "project": "What this config belongs to.",
    "require": "What every host must offer.",
    "smoke": "How services are tried.",
    "target": "The guest in which services are tried.",
    "artifacts": "Build artifacts.",
    "slices.*": "One slice: limits that everything in it shares. Dashes in its name nest: a-b lies in a.",
    "services.*": "One program, its slice and its limits, spelled as systemd spells them.",
    "services.*.smoke": "How this service is tried.",
}
_DEFAULTS: dict[tuple[str, str], object] = {
    ("require", "controllers"): list(Require().controllers),
    ("smoke", "engine"): "auto",
    ("smoke", "allow_remote_ready"): False,
    ("smoke", "allow_tiny_limits"): False,
    ("target", "machine"): "auto",
    ("target", "network"): False,
    ("services.*", "go_settings"): True,
    ("services.*", "gomemlimit_ratio"): GOMEMLIMIT_RATIO,
    ("services.*.smoke", "duration"): f"{Smoke().duration:g}s",
    ("services.*.smoke", "start_timeout"): f"{Smoke().start_timeout:g}s",
    ("services.*.smoke", "stop_timeout"): f"{Smoke().stop_timeout:g}s",
}
_EXAMPLES: dict[tuple[str, str], list[object]] = {
    ("project", "name"): ["shop"],
    ("require", "controllers"): [list(CONTROLLERS[:2])],
    ("require", "systemd"): [">=249"],
    ("require", "kernel"): [">=5.15"],
    ("target", "files"): [["etc/*.yaml", "static/**"]],
    ("artifacts", "inject"): [["dist/*.tar.gz", "dist/*.deb"]],
    ("services.*", "binary"): ["dist/user-api"],
    ("services.*", "slice"): ["api"],
    ("services.*", "Environment"): [{"GOGC": "50"}],
    ("services.*.smoke", "args"): [["--port=8081"]],
    ("services.*.smoke", "env"): [{"LOG_LEVEL": "debug"}],
    ("services.*.smoke", "start_timeout"): ["30s"],
    ("services.*.smoke", "stop_timeout"): ["10s"],
}


def schema() -> Schema:
    """The schema as plain data; a new dictionary each time."""
    tops = {name: _table(name) for name in SECTIONS if "." not in name}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cgroup-preflight.toml",
        "description": "Slices, services and limits of a project, and how they are proven before the merge.",
        "type": "object",
        "properties": {
            **tops,
            "slices": _named("slice", "Slices by name, without .slice.", _NOT_IN_SLICE),
            "services": _named("service", "Services by name, without .service.", _NOT_IN_UNIT),
        },
        "required": [name for name in tops if any(key.required for key in SECTIONS[name])],
        "additionalProperties": False,
        "$defs": {
            "slice": _table("slices.*"),
            "service": _table("services.*", smoke={"$ref": "#/$defs/service_smoke"}),
            "service_smoke": _table("services.*.smoke"),
        },
    }


def _named(name: str, description: str, forbidden: str) -> Schema:
    return {
        "type": "object", "description": description,
        "propertyNames": {"maxLength": NAME_MAX, "not": {"pattern": forbidden}},
        "patternProperties": {_NAME: {"$ref": f"#/$defs/{name}"}}, "additionalProperties": False,
    }  # fmt: skip


def _table(section: str, **more: Schema) -> Schema:
    keys = SECTIONS[section]
    required = _required(keys)
    return {
        "type": "object", "description": _ABOUT[section],
        "properties": {key.name: _key(section, key) for key in keys} | more,
        **({"required": required} if required else {}), "additionalProperties": False,
    }  # fmt: skip


def _required(keys: Iterable[Key]) -> list[str]:
    return [key.name for key in keys if key.required]


def _key(section: str, key: Key) -> Schema:
    """One key: its shape, then what the key table says, then default and examples."""
    place = (section, key.name)
    described: Schema = {"description": key.doc, **_shape(key), **key.schema}
    if place in _DEFAULTS:
        described["default"] = _DEFAULTS[place]
    if place in _EXAMPLES:
        described.setdefault("examples", _EXAMPLES[place])
    if "enum" in described:
        described.setdefault("examples", described["enum"])
    if key.kind == "bool":
        described.setdefault("examples", [True])
    return described


def _shape(key: Key) -> Schema:
    if key.is_property:
        return SHAPES.get(key.name, {"type": ["string", "integer"]})
    shapes: dict[str, Schema] = {
        "bool": {"type": "boolean"},
        "ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "string": {"type": "string", "maxLength": _TEXT_MAX, **_text(key)},
        "span": {
            "type": ["string", "integer"], "pattern": SPAN, "minimum": int("timeout" in key.name), "maximum": 3600,
        },
        "strings": {"type": "array", "items": {"type": "string", "maxLength": _TEXT_MAX}},
        "map": {
            "type": "object", "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": "string", "maxLength": _TEXT_MAX},
        },
    }  # fmt: skip
    return shapes[key.kind]


def _text(key: Key) -> Schema:
    """More about a text than that it is one, by the function that reads it."""
    if key.parse in (parse_name, parse_unit_name):
        forbidden = _NOT_IN_NAME if key.parse is parse_name else _NOT_IN_UNIT
        return {"pattern": _NAME, "maxLength": NAME_MAX, "not": {"pattern": forbidden}}
    if key.parse is parse_ready:
        return {"pattern": _READY}
    return {"minLength": 1, "pattern": r"^[^\u0000-\u001f\u007f]+$"} if key.name == "binary" else {}
