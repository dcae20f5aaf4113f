"""The schema of the JSON report against what json_format writes."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from cgroup_preflight.core.report import Report, ServiceResult, Status, Verdict
from cgroup_preflight.report import codec, schema
from tests.unit.report.samples import MIXED, SAMPLES, finding, report

#: Fields that files of earlier versions do not have.
LATER = {"memory_max_bytes", "log_tail", "origin", "read_at"}
SCHEMA = schema.schema()
VALIDATOR = Draft202012Validator(SCHEMA)
EMPTY = Report(
    tool_version="0",
    verdict=Verdict.UNVERIFIED,
    host=None,
    findings=(),
    services=(),
    started_at="",
    duration_seconds=0.0,
)
BARE = report(
    finding(Status.SKIP, evidence={}, remedies=(), location=None),
    services=(ServiceResult(name="a", engine="user", unit="a.service", cgroup=""),),
)


def load(some: Report) -> Any:
    return json.loads(codec.render(some))


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("some", [*SAMPLES, EMPTY, BARE])
def test_reports_are_valid(some: Report) -> None:
    VALIDATOR.validate(load(some))


def test_it_has_every_field_of_the_records_with_a_description() -> None:
    service = SCHEMA["$defs"]["service"]["properties"]  # type: ignore[index]
    assert list(service) == list(ServiceResult.__slots__)  # type: ignore[attr-defined]
    assert all(item["description"] for item in service.values())
    assert service["log_tail"]["maxItems"] == 20
    assert service["memory_max_bytes"]["type"] == ["integer", "null"]


def test_every_field_is_demanded_and_no_other_allowed() -> None:
    document = load(MIXED)
    tables = [document, document["tool"], document["host"], document["findings"][1], document["services"][0],
              document["findings"][1]["remedies"][0], document["findings"][1]["location"],
              document["services"][0]["cpu"], document["services"][0]["limits"][0]]  # fmt: skip
    for table in tables:
        for name in list(table):
            value = table.pop(name)
            if name in LATER or (name == "host" and table is document["services"][0]):
                VALIDATOR.validate(document)
                table[name] = value
                continue
            with pytest.raises(ValidationError):
                VALIDATOR.validate(document)
            table[name] = value
        table["surprise"] = 1
        with pytest.raises(ValidationError):
            VALIDATOR.validate(document)
        del table["surprise"]
    VALIDATOR.validate(document)


def test_another_version_is_refused() -> None:
    with pytest.raises(ValidationError):
        VALIDATOR.validate(load(MIXED) | {"schema_version": 2})
