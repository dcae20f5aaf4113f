"""JSON Schema (2020-12) of the config, from `keys.SECTIONS`: for editors (Taplo, Even Better TOML) and reviews.

All that the loader accepts is valid here. Of what the loader refuses, the schema finds what an expression can find.
Patterns have no look-around, because Taplo reads names of `patternProperties` with an engine that has none.
"""

from collections.abc import Iterable

from cgroup_preflight import ADDRESS
from cgroup_preflight.config.key import Key
from cgroup_preflight.config.keys import NAME_MAX, SECTIONS, UNIT_TYPES, parse_name, parse_ready, parse_slice_of_service
from cgroup_preflight.config.properties import SPAN, Schema

_NAME = "^[A-Za-z0-9][A-Za-z0-9_.]*(-[A-Za-z0-9_.]+)*$"
#: What no name may have; Python's `$` would let a last newline pass.
_NOT_IN_NAME = r"\.\.|[^A-Za-z0-9_.-]"
_NOT_IN_UNIT = rf"{_NOT_IN_NAME}|\.({'|'.join(UNIT_TYPES)})$"
_NOT_IN_SLICE = rf"{_NOT_IN_UNIT}|^(system|user|machine|init)$|^user-"
_READY = r"^(https?://[^\s/@?#\\]+([/?][!-~]*)?|grpc://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}(/[A-Za-z0-9_./-]{0,200})?|tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}|unix:(/(?!/)|@)[!-~]{1,106}|log:[\s\S]*|notify|exit)$"
_TEXT_MAX = 4096


def schema() -> Schema:
    """The schema as plain data; a new dictionary each time."""
    tops = {name: _table(name) for name in SECTIONS if "." not in name}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{ADDRESS}/schema/config.json",
        "title": "cgroup-preflight.toml",
        "description": "Slices, services and limits of a project, and how they are proved before the merge.",
        "type": "object",
        "properties": {
            **tops,
            "policy": _table(
                "policy",
                ignore={
                    "type": "array",
                    "maxItems": 1000,
                    "items": _table("policy.ignore"),
                    "description": "Exceptions, each with a reason.",
                },
            ),
            "rollout": _rollout(),
            "slices": _named("slice", "Slices by name, without .slice.", _NOT_IN_SLICE),
            "services": _named("service", "Services by name, without .service.", _NOT_IN_UNIT),
        },
        "required": [name for name in tops if _required(SECTIONS[name].keys)],
        "additionalProperties": False,
        "$defs": {
            "slice": _table("slices.*"),
            "rollout_slice": _table("rollout.slices.*"),
            "service": _table(
                "services.*", smoke={"$ref": "#/$defs/service_smoke"}, policy={"$ref": "#/$defs/service_policy"}
            )
            | _PROGRAM,
            "service_smoke": _table("services.*.smoke"),
            "service_policy": _table("services.*.policy"),
        },
    }


def _rollout() -> Schema:
    slices = _named("rollout_slice", "Target values by slice, without .slice.", _NOT_IN_SLICE)
    return _table("rollout", slices=slices, hook=_table("rollout.hook"), prometheus=_table("rollout.prometheus"))


def _named(name: str, description: str, forbidden: str) -> Schema:
    return {
        "type": "object", "description": description,
        "propertyNames": {"maxLength": NAME_MAX, "not": {"pattern": forbidden}},
        "patternProperties": {_NAME: {"$ref": f"#/$defs/{name}"}}, "additionalProperties": False,
    }  # fmt: skip


def _table(section: str, **more: Schema) -> Schema:
    table = SECTIONS[section]
    required = _required(table.keys)
    return {
        "type": "object", "description": table.doc,
        "properties": {key.name: _key(key) for key in table.keys} | more,
        **({"required": required} if required else {}), "additionalProperties": False,
    }  # fmt: skip


#: A service has a program, or a unit that names one.
_PROGRAM: Schema = {"anyOf": [{"required": ["binary"]}, {"required": ["unit"]}]}


def _required(keys: Iterable[Key]) -> list[str]:
    return [key.name for key in keys if key.required]


def _key(key: Key) -> Schema:
    """One key: the shape of its kind, then what the key table says."""
    described: Schema = {"description": key.doc, **_shape(key), **key.schema}
    if key.default is not None:
        described["default"] = key.default
    examples = list(key.examples) or described.get("enum") or ([True] if key.kind == "bool" else [])
    return described | ({"examples": examples} if examples else {})


def _shape(key: Key) -> Schema:
    if key.is_property:
        return {}
    shapes: dict[str, Schema] = {
        "bool": {"type": "boolean"},
        "ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "string": {"type": "string", "maxLength": _TEXT_MAX, **_text(key)},
        "span": {
            "type": ["string", "integer"], "pattern": SPAN, "minimum": 0, "maximum": 3600,
        },
        "quantity": {"maxLength": _TEXT_MAX},
        "strings": {"type": "array", "items": {"type": "string", "maxLength": _TEXT_MAX}},
        "map": {
            "type": "object", "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": "string", "maxLength": _TEXT_MAX},
        },
        "paths": {
            "type": "object", "propertyNames": {"pattern": "^/[^\\u0000-\\u001f\\u007f]+$"},
            "additionalProperties": {"type": "string", "minLength": 1, "maxLength": _TEXT_MAX},
        },
    }  # fmt: skip
    return shapes[key.kind]


def _text(key: Key) -> Schema:
    """What a text looks like, by the function that reads it."""
    if key.parse in (parse_name, parse_slice_of_service):
        forbidden = _NOT_IN_NAME if key.parse is parse_name else _NOT_IN_SLICE
        return {"pattern": _NAME, "maxLength": NAME_MAX, "not": {"pattern": forbidden}}
    return {"pattern": _READY} if key.parse is parse_ready else {}
