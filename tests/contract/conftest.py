"""The tests of the channels once more, against forges that hold every request against the forge's own description."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.description import Contract
from tests.contract.forge.github import GitHub
from tests.contract.forge.gitlab import GitLab
from tests.contract.forge.server import Call
from tests.contract.github_description import EDITIONS, description
from tests.contract.gitlab_description import DESCRIPTION
from tests.contract.used import USED
from tests.unit.publish.conftest import call  # noqa: F401 - a fixture


class _All:
    """Several descriptions at once; answers one call with all that is wrong with it."""

    def __init__(self, named: dict[str, dict[str, Any]], exempt: tuple[str, ...] = ()) -> None:
        self._contracts = {name: Contract(text, exempt=exempt) for name, text in named.items()}

    def __call__(self, request: Call) -> list[str]:
        problems = [f"{name}: {text}" for name, contract in self._contracts.items() for text in contract(request)]
        for name, contract in self._contracts.items():
            USED.setdefault(name, set()).update(contract.used)
        return problems


@pytest.fixture(scope="session")
def github_contract() -> _All:
    # GraphQL has no REST description; the forge itself looks at the one query there is.
    return _All({edition: description(edition) for edition in EDITIONS}, exempt=("/api/graphql",))


@pytest.fixture(scope="session")
def gitlab_contract() -> _All:
    return _All({"gitlab": DESCRIPTION})


@pytest.fixture
def github(github_contract: _All) -> Iterator[GitHub]:
    forge = GitHub(github_contract)
    with forge.running():
        yield forge
    assert forge.problems == []
    assert all(query == {"query": "query{viewer{login}}"} for query in forge.graphql)


@pytest.fixture
def gitlab(gitlab_contract: _All) -> Iterator[GitLab]:
    forge = GitLab(gitlab_contract)
    with forge.running():
        yield forge
    assert forge.problems == []
