"""Every request of the GitLab tests against the small description, and that against GitLab's own."""

import os
from pathlib import Path

import pytest
import yaml

from tests.contract.gitlab_description import DESCRIPTION
from tests.unit.publish.test_gitlab import *  # noqa: F403

#: Laid beside the repository where the project is developed; not part of it, since its licence is another.
EXCERPT = Path(
    os.environ.get("CGPF_GITLAB_EXCERPT")
    or Path(__file__).parents[3] / "shared/contracts/gitlab-openapi-v3-excerpt.yaml"
)
_OPERATIONS = [(path, method) for path, methods in DESCRIPTION["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def excerpt():
    if not EXCERPT.is_file():
        pytest.skip(f"{EXCERPT} is absent: the GitLab description was compared with nothing")
    return yaml.safe_load(EXCERPT.read_text("utf-8"))


def _plain(path):
    return path.replace("{noteable_id}", "{merge_request_iid}").removeprefix("/api/v4")


@pytest.mark.parametrize(("path", "method"), _OPERATIONS, ids=lambda value: value.rsplit("/", 1)[-1])
def test_ours_says_what_gitlabs_says(excerpt, path, method):
    theirs = {_plain(name): methods for name, methods in excerpt["paths"].items()}
    operation, ours = theirs[path][method], DESCRIPTION["paths"][path][method]
    known = {
        (item["name"].replace("noteable_id", "merge_request_iid"), item["in"]): item["schema"]
        for item in operation.get("parameters", ())
    }
    for item in ours["parameters"]:
        schema = known[item["name"], item["in"]]
        types = {schema.get("type")} | {part["type"] for part in schema.get("oneOf", ())}
        assert item["schema"]["type"] in types, item["name"]
        assert set(item["schema"].get("enum", ())) <= set(schema.get("enum", item["schema"].get("enum", ())))
    if "requestBody" in ours:
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        mine = ours["requestBody"]["content"]["application/json"]["schema"]
        assert {name: value["type"] for name, value in mine["properties"].items()}.items() <= {
            name: value.get("type") for name, value in body["properties"].items()
        }.items()
