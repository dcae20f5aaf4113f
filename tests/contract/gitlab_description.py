"""What GitLab's REST documentation says of the requests that this tool makes, as a small OpenAPI description.

Written from the pages "Notes API" (merge requests), "Merge requests API", "Commits API" and "Users API".
"""

from typing import Any

_COUNT = {"type": "integer", "minimum": 1}


def _path(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}}


def _query(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


_PAGES = [_query("page", **_COUNT), _query("per_page", type="integer", minimum=1, maximum=100)]
_REQUEST = [_path("id", "string"), _path("merge_request_iid", "integer")]
_NOTE = [*_REQUEST, _path("note_id", "integer")]


def _operation(name: str, parameters: list[dict[str, Any]], body: dict[str, Any] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": name,
        "parameters": parameters,
        "responses": {"default": {"description": ""}},
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return made


_BODY = {
    "type": "object",
    "required": ["body"],
    "properties": {"body": {"type": "string", "minLength": 1, "maxLength": 1_000_000}},
}
_LISTING = [
    _query("order_by", type="string", enum=["created_at", "updated_at"]),
    _query("sort", type="string", enum=["asc", "desc"]),
    _query("activity_filter", type="string", enum=["all_notes", "only_comments", "only_activity"]),
    *_PAGES,
]

DESCRIPTION: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "What this tool asks of GitLab", "version": "4"},
    "servers": [{"url": "https://forge.example"}],
    "paths": {
        "/user": {"get": _operation("user", [])},
        "/projects/{id}/merge_requests/{merge_request_iid}": {"get": _operation("request", _REQUEST)},
        "/projects/{id}/merge_requests/{merge_request_iid}/notes": {
            "get": _operation("notes", [*_REQUEST, *_LISTING]),
            "post": _operation("create", _REQUEST, _BODY),
        },
        "/projects/{id}/merge_requests/{merge_request_iid}/notes/{note_id}": {
            "put": _operation("update", _NOTE, _BODY),
            "delete": _operation("delete", _NOTE),
        },
        "/projects/{id}/repository/commits/{sha}/merge_requests": {
            "get": _operation("of-commit", [_path("id", "string"), _path("sha", "string"), *_PAGES]),
        },
    },
}
