"""The judge itself: what it lets pass, what it does not, and that nothing in it is left unused."""

import pytest

from tests.contract.description import Contract, cut
from tests.contract.forge.server import Call
from tests.contract.github_description import EDITIONS, OPERATIONS, description
from tests.contract.gitlab_description import DESCRIPTION
from tests.contract.used import USED

CHECK = {
    "name": "x",
    "head_sha": "1" * 40,
    "status": "completed",
    "conclusion": "success",
    "output": {"title": "t", "summary": "s"},
}
ANNOTATION = {"path": "a", "start_line": 1, "end_line": 1, "annotation_level": "failure", "message": "m"}


def _post(path, body, **query):
    headers = {"content-type": "application/json"}
    return Call(method="POST", path=path, query=query, headers=headers, body=body)


@pytest.fixture(scope="module", params=EDITIONS)
def github(request):
    return Contract(description(request.param))


def test_a_good_request_passes(github):
    assert github(_post("/repos/o/r/check-runs", CHECK)) == []


@pytest.mark.parametrize(("change", "said"), [
    ({"head_sha": 7}, "7 is not of type"), ({"colour": "red"}, "unknown field body.colour"),
    ({"output": {"title": "t", "summary": "s", "annotations": [ANNOTATION | {"annotation_level": "bad"}]}}, "bad"),
    ({"output": {"title": "t", "summary": "s", "annotations": [ANNOTATION] * 51}}, "annotations"),
    ({"output": {"title": "t", "summary": "s" * 65_536}}, ""),
    ({"output": {"title": "t", "summary": "s", "annotations": [ANNOTATION | {"column": 1}]}}, "unknown field"),
])  # fmt: skip
def test_a_bad_request_does_not(github, change, said):
    problems = github(_post("/repos/o/r/check-runs", CHECK | change))
    assert problems
    assert said in " ".join(problems)


def test_unknown_names(github):
    assert github(_post("/repos/o/r/checks", CHECK)) == ["unknown operation: POST /repos/o/r/checks"]
    assert "unknown parameter x" in github(_post("/repos/o/r/check-runs", CHECK, x="1"))[0]


def test_gitlab_names():
    judge = Contract(DESCRIPTION)
    assert judge(_post("/projects/42/merge_requests/5/notes", {"body": "x"})) == []
    assert judge(_post("/projects/42/merge_requests/5/notes", {"text": "x"}))
    assert judge(_post("/projects/42/merge_requests/5/discussions", {"body": "x"}))


def test_a_cut_names_what_is_missing():
    with pytest.raises(LookupError, match="no/such"):
        cut({"paths": {}, "info": {"version": "1"}}, ["no/such"])


def test_zz_every_operation_was_used():
    """Last in its file and the files in their order: all others have run, unless only some were asked for."""
    if set(USED) != {*EDITIONS, "gitlab"}:
        pytest.skip("only a part of the tests was run")
    for edition in EDITIONS:
        assert USED[edition] == set(OPERATIONS)
    assert len(USED["gitlab"]) == sum(len(methods) for methods in DESCRIPTION["paths"].values())
