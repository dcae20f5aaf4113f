"""Requests against an OpenAPI description: openapi-core for types, and what it lets pass: unknown names."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from openapi_core import OpenAPI
from openapi_core.testing import MockRequest

from tests.contract.forge.server import Call

HOST = "https://forge.example"


def cut(description: Mapping[str, Any], operations: Iterable[str]) -> dict[str, Any]:
    """The description with these operations only and whatever they refer to; answers are left out."""
    wanted = set(operations)
    paths: dict[str, Any] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if isinstance(operation, dict) and operation.get("operationId") in wanted:
                wanted.discard(operation["operationId"])
                kept = {
                    name: operation[name] for name in ("operationId", "parameters", "requestBody") if name in operation
                }
                paths.setdefault(path, {})[method] = kept | {"responses": {"default": {"description": ""}}}
    if wanted:
        raise LookupError(f"not in the description: {sorted(wanted)}")
    small: dict[str, Any] = {
        "openapi": "3.0.3",
        "info": {"title": "cut", "version": description["info"]["version"]},
        "paths": paths,
        "servers": [{"url": HOST}],
        "components": {},
    }
    todo = list(_references(paths))
    while todo:
        reference = todo.pop()
        _, _, kind, name = reference.split("/")
        if name not in small["components"].setdefault(kind, {}):
            small["components"][kind][name] = description["components"][kind][name]
            todo += _references(description["components"][kind][name])
    return small


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


class Contract:
    """Names what is wrong with a call; remembers which operations were used."""

    def __init__(self, description: Mapping[str, Any], *, exempt: tuple[str, ...] = ()) -> None:
        self.description = description
        self._exempt = exempt  # paths that no description of REST has
        self._openapi = OpenAPI.from_dict(json.loads(json.dumps(description)))
        self.used: set[str] = set()

    def __call__(self, call: Call) -> list[str]:
        if call.path in self._exempt:
            return []
        found = self._operation(call)
        if found is None:
            return [f"unknown operation: {call.method} {call.path}"]
        template, operation = found
        self.used.add(operation["operationId"])
        return [
            f"{call.method} {call.path}: {text}"
            for text in (*self._types(call), *self._names(call, template, operation))
        ]

    def _operation(self, call: Call) -> tuple[str, dict[str, Any]] | None:
        # The template with the fewest variables is meant: `/issues/comments/1` is no issue called "comments".
        for template in sorted(self.description["paths"], key=lambda text: text.count("{")):
            pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template))
            operation = self.description["paths"][template].get(call.method.lower())
            if operation and re.fullmatch(pattern, call.path):
                return template, operation
        return None

    def _types(self, call: Call) -> Iterator[str]:
        data = None if call.body is None else json.dumps(call.body).encode()
        request = MockRequest(
            HOST,
            call.method.lower(),
            call.path,
            args=call.query,
            data=data,
            headers=call.headers,
            content_type=call.headers.get("content-type", "application/json"),
        )
        try:
            self._openapi.validate_request(request)
        except Exception as error:  # noqa: BLE001 - each kind of error has a class of its own
            causes = [str(item.message) for item in getattr(error.__cause__, "schema_errors", ())]
            yield f"{error}: {'; '.join(causes) or error.__cause__}"[:600]

    def _names(self, call: Call, template: str, operation: Mapping[str, Any]) -> Iterator[str]:
        known = {item["name"] for item in map(self._follow, operation.get("parameters", ())) if item["in"] == "query"}
        yield from (f"unknown parameter {name}" for name in call.query if name not in known)
        if call.body is not None:
            content = self._follow(operation.get("requestBody", {})).get("content", {})
            yield from self._fields(call.body, content.get("application/json", {}).get("schema", {}), "body")

    def _follow(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in value:
            _, _, kind, name = value["$ref"].split("/")
            value = self.description["components"][kind][name]
        return value

    def _fields(self, value: object, schema: Mapping[str, Any], at: str) -> Iterator[str]:
        schema = self._follow(schema)
        branches = [self._follow(item) for key in ("oneOf", "anyOf", "allOf") for item in schema.get(key, ())]
        if isinstance(value, dict):
            known: dict[str, Any] = {}
            for part in (*branches, schema):
                known = part.get("properties", {}) | known
            for name, inner in value.items():
                if name not in known:
                    yield f"unknown field {at}.{name}"
                else:
                    yield from self._fields(inner, known[name], f"{at}.{name}")
        elif isinstance(value, list):
            for inner in value:
                yield from self._fields(inner, schema.get("items", {}), f"{at}[]")
