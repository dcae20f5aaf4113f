"""The identity of legs, which of them count, and which are missing: over names that people and slugs take for equal."""

import json
import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.report import Origin, Verdict
from cgroup_preflight.publish.comment_state import RunId
from cgroup_preflight.publish.gitlab import job as gitlab_job
from cgroup_preflight.publish.legs import Expected, absent, expected_of, join, key_of
from cgroup_preflight.publish.options import view
from cgroup_preflight.publish.origin import JobId, LegId, artifact_name, matrix_name, named, origin_of, unique_name
from cgroup_preflight.report.merge import Leg
from tests.unit.publish.jobs import FAIL, PASS
from tests.unit.report.samples import few

LONG = "registry.example/image@sha256:" + "0123456789abcdef" * 8


@st.composite
def pairs_that_look_alike(draw):
    """Two different texts: they differ at the end, in case, in what slugs fold, or in how Unicode writes them."""
    base = draw(st.sampled_from([LONG, "debian-12", "a", "Ünïcode", "x" * 98, "x" * 60, "é" * 40, "1", "true", "a, b"]))
    other = draw(st.sampled_from([
        f"{base}1", f"{base}.", base.swapcase(), base.replace("-", "_"), base.replace("-", "/"), f"{base} ",
        unicodedata.normalize("NFD", base), unicodedata.normalize("NFKC", f"{base}ﬁ"), f"{base}\u200b", base[:-1], f"{base},",
    ]))  # fmt: skip
    return draw(st.permutations([base, other])) if base != other else (base, f"{base}x")


def _job(name="leg", *, workflow="ci.yml", run=7, attempt=1, job_id=0):
    return JobId(workflow=workflow, name=name, run=RunId(run=run, attempt=attempt), id=job_id)


def _every_name(job, leg):
    origin = origin_of(job, leg)
    return origin.id, unique_name(job, leg), artifact_name(origin)


@few
@given(pairs_that_look_alike())
def test_whatever_differs_makes_other_legs(pair):
    """As a value of the matrix, a key of it, the type of a value, the name, the job, the workflow, and the folder."""
    ways = [
        [(_job(), LegId(matrix=json.dumps({"os": text}))) for text in pair],
        [(_job(), LegId(matrix=json.dumps({"os": text, "n": 1}), name="same")) for text in pair],
        [(_job(), LegId(matrix=json.dumps({text: "a"}))) for text in pair],
        [(_job(), LegId(matrix=json.dumps({"os": [text]}))) for text in pair],
        [(_job(), LegId(name=text)) for text in pair],
        [(_job(), LegId(matrix=f"leg: [{text}]")) for text in pair],
        [(_job(text), LegId(matrix='{"os": "a"}')) for text in pair],
        [(_job(workflow=text), LegId()) for text in pair],
        [(_job(), LegId(folder=text)) for text in pair],
        [(_job(), LegId(matrix=json.dumps({"os": pair[0]}))), (_job(), LegId(matrix=json.dumps({"os": [pair[0]]})))],
        [(_job(), LegId(matrix=json.dumps({"a": pair[0]}))), (_job(), LegId(matrix=json.dumps({"b": pair[0]})))],
        [(_job(), LegId(matrix=json.dumps({"a": pair[0]}))), (_job(pair[0]), LegId(name="a"))],
    ]
    for one, two in ways:
        for at, (first, second) in enumerate(zip(_every_name(*one), _every_name(*two), strict=True)):
            assert _seen(first) != _seen(second)
            assert at == 1 or _slug(first) != _slug(second)  # GitHub makes no slug of the name of a check run
            assert len(first) <= 100
        for again in (_job(run=9, attempt=3, job_id=5),):
            kept = JobId(workflow=one[0].workflow, name=one[0].name, run=again.run, id=again.id)
            assert _every_name(kept, one[1])[:2] == _every_name(*one)[:2]
            assert _every_name(kept, one[1])[2] != _every_name(*one)[2]


def _seen(name):
    """What readers and comparisons without case see of a name."""
    return unicodedata.normalize("NFKC", name).casefold()


def _slug(name):
    """What slugs leave of a name."""
    return re.sub(r"[^a-z0-9]+", "-", _seen(name))


@pytest.mark.parametrize(("job", "leg", "name"), [
    (_job(), LegId(), "ci.yml / leg"), (_job(workflow=""), LegId(folder="."), "leg"),
    (_job(), LegId(matrix='{"os": "debian-12", "arch": "arm"}', name="debian-12, arm"), "ci.yml / leg, arch: arm, os: debian-12"),
    (_job(), LegId(matrix="null", name="mine"), "ci.yml / leg, mine"), (_job(), LegId(folder="shop"), "ci.yml / leg, in shop"),
    (_job(), LegId(matrix="{}"), "ci.yml / leg"),
])  # fmt: skip
def test_plain_names_stay_plain(job, leg, name):
    assert unique_name(job, leg) == name


@pytest.mark.parametrize("value", ["a/b", "A", "1.22", "x" * 99, "a, b", "a: b", 3, None, "", "\n::error::", "true"])
def test_other_names_end_with_their_hash(value):
    leg = LegId(matrix=json.dumps({"v": value}))
    name = unique_name(_job(), leg)
    assert name.endswith(f" #{origin_of(_job(), leg).id[:12]}")
    assert name.isprintable()
    assert re.fullmatch(r"cgroup-preflight-[A-Za-z0-9.-]+", artifact_name(origin_of(_job(), leg)))


def test_the_order_of_keys_and_a_job_without_a_matrix_change_nothing():
    assert origin_of(_job(), LegId(matrix='{"a": 1, "b": 2}')) == origin_of(_job(), LegId(matrix='{"b": 2, "a": 1}'))
    assert (
        origin_of(_job(), LegId(matrix="null")) == origin_of(_job(), LegId(matrix="{}")) == origin_of(_job(), LegId())
    )
    assert matrix_name('{"b": "x", "a": [1, 2], "c": null}') == "x, [1, 2], null"
    assert matrix_name("[") == matrix_name("3") == ""
    assert origin_of(_job(), LegId(matrix="[" * 100_000)).id != origin_of(_job(), LegId()).id


@few
@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "A",
                "ﬁ",
                "fi",
                "x" * 60 + "1",
                "x" * 60 + "2",
                "leg",
                "leg: a",
                "a (2)",
                "a",
                "ﷺ" * 50,
                "ß" * 50,
            ]
        ),
        max_size=9,
    )
)
def test_names_in_a_table_are_told_apart(names):
    legs = tuple(
        Leg(name=name, report=replace(PASS, origin=origin_of(_job(f"job{number % 2}"), LegId(matrix=str(number)))))
        if number % 3
        else Leg(name=name, report=PASS)
        for number, name in enumerate(names)
    )
    shown = [leg.name for leg in named(legs)]
    assert len({_seen(name)[:60] for name in shown}) == len(names)
    if len({_seen(name)[:60] for name in names}) == len(names):
        assert shown == names


def _leg(matrix="a", *, made=PASS, job="leg", index=0, total=0, run=7, attempt=1, job_id=1):
    origin = origin_of(
        _job(job, run=run, attempt=attempt, job_id=job_id), LegId(matrix=matrix, index=index, total=total)
    )
    return Leg(name=matrix, report=replace(made, origin=origin))


def _keys(legs):
    return sorted(key_of(leg.report.origin) for leg in legs)


def test_a_later_attempt_replaces_its_own_leg_only():
    one, other, same = _leg(made=FAIL), _leg(job="other", made=FAIL, job_id=2), _leg("b", made=FAIL, job_id=3)
    again = _leg(attempt=2, job_id=9)
    assert _keys(join([one, other, same, again])) == _keys([again, other, same])
    assert _keys(join([again, one])) == _keys([again])
    assert _keys(join([_leg(run=8, job_id=5), same, other])) == _keys([_leg(run=8, job_id=5), other])


def test_two_jobs_with_one_identity_both_count():
    """A workflow that is called twice: nothing tells which of the two a later attempt repeats."""
    one, two = _leg(made=FAIL, job_id=1), _leg(job_id=2)
    assert _keys(join([one, two])) == _keys([one, two])
    first, second = _leg(attempt=2, job_id=3), _leg(attempt=2, job_id=4)
    assert _keys(join([one, two, first])) == _keys([one, two, first])
    assert _keys(join(join([one, two, first]))) == _keys([one, two, first])
    assert _keys(join([one, two, first, second])) == _keys([first, second])


@pytest.mark.parametrize(("job_id", "verdict"), [(1, Verdict.PASS), (0, Verdict.FAIL)])
def test_of_two_reports_of_one_job_the_later_one_counts_if_it_is_surely_one_job(job_id, verdict):
    (left,) = join([_leg(made=FAIL, job_id=job_id), _leg(job_id=job_id)])
    assert left.report.verdict is verdict
    (left,) = join([_leg(job_id=job_id), _leg(made=FAIL, job_id=job_id)])
    assert left.report.verdict is Verdict.FAIL


def test_reports_without_an_origin_all_count():
    legs = [Leg(name="a", report=PASS), Leg(name="a", report=FAIL)]
    assert list(join(legs)) == legs


def _said(legs, *words):
    return [(leg.name, leg.report.findings[0].message) for leg in absent(legs, expected_of(words))]


def test_positions_tell_which_legs_are_missing():
    assert _said([_leg(index=2, total=3)]) == [
        ("leg: leg 1 of 3", "this leg has not reported; 1 of 3 legs of the job have"),
        ("leg: leg 3 of 3", "this leg has not reported; 1 of 3 legs of the job have"),
    ]
    assert _said([_leg(str(number), index=number, total=3) for number in (1, 2, 3)]) == []
    assert _said([_leg(index=1, total=1), _leg("b", total=0)]) == []
    assert [name for name, _ in _said([_leg(total=10**9, index=1)])] == ["leg"]
    assert len(_said([_leg(total=256, index=256)])) == 255
    assert _said([_leg(index=7, total=2)])[0][0] == "leg: leg 1 of 2"


def test_legs_of_a_job_in_different_folders_are_of_one_job():
    made = [
        replace(PASS, origin=origin_of(_job(job_id=at), LegId(matrix=f'"{at}"', folder=folder, index=at, total=2)))
        for at, folder in ((1, "a"), (2, "b"))
    ]
    assert _said([Leg(name="x", report=item) for item in made]) == []
    assert [name for name, _ in _said([Leg(name="x", report=made[1])])] == ["leg: leg 1 of 2"]


def _needs(**results):
    return json.dumps({job: {"result": result, "outputs": {}} for job, result in results.items()})


@pytest.mark.parametrize(("words", "missing"), [
    (["leg"], []), (["other"], ["other"]), (["a"], []), (["1"], []), (["2"], ["reports"]), (["", " leg "], []),
    ([_needs(leg="success")], []), ([_needs(leg="failure")], ["leg"]), ([_needs(leg="cancelled")], ["leg"]),
    ([_needs(leg="success", build="success")], ["build"]), ([_needs(leg="skipped")], ["leg"]),
])  # fmt: skip
def test_expected_jobs_that_did_not_report_are_missing(words, missing):
    legs = [_leg()] if "a" not in words else [Leg(name="a", report=PASS)]
    assert [name for name, _ in _said(legs, *words)] == missing
    assert [name for name, _ in _said([], *words)] == (
        ["reports"] if words[0].isdigit() else [item.job for item in expected_of(words)]
    )
    made = absent(legs, expected_of(words))
    assert all(leg.report.verdict is Verdict.UNVERIFIED for leg in made)
    assert view(named((*legs, *made))).verdict is (Verdict.UNVERIFIED if missing else Verdict.PASS)


def test_legs_with_names_of_their_own_are_of_the_job_that_is_expected():
    origins = [origin_of(_job(), LegId(name=name)) for name in ("debian-12", "fedora-43")]
    legs = [Leg(name=origin.name, report=replace(PASS, origin=origin)) for origin in origins]
    assert _said(legs, "leg") == _said(legs, "debian-12") == _said(legs, _needs(leg="success")) == []
    assert [name for name, _ in _said(legs, "debian-13")] == ["debian-13"]


def test_artifacts_of_two_jobs_with_one_identity_have_two_names():
    one, two = (artifact_name(origin_of(_job(job_id=number), LegId(name="a"))) for number in (1, 2))
    assert one != two
    assert one == artifact_name(origin_of(_job(job_id=1), LegId(name="a")))


def test_a_job_that_failed_because_of_its_reports_is_not_missing():
    assert _said([_leg(made=FAIL)], _needs(leg="failure")) == []
    assert [name for name, _ in _said([_leg(index=1, total=2)], _needs(leg="failure"))] == ["leg: leg 2 of 2"]
    assert _said([_leg()], _needs(leg="failure"))[0][1].endswith("the job ended with: failure")
    assert expected_of([_needs(leg="success")]) == (Expected(job="leg", result="success"),)


@pytest.mark.parametrize("text", ["{", "{x", '{"a": 1}', '{"a": {}}', '{"a": {"result": 1}}'])
def test_what_is_no_context_of_needs_is_refused(text):
    with pytest.raises(ValueError):
        expected_of([text])


@pytest.mark.parametrize(("name", "job"), [
    ("leg: [a]", "leg"), ("leg: [a, b: [c]]", "leg"), ("leg 2/3", "leg"), ("leg", "leg"), ("a/b", "a/b"), ("a: b", "a: b"),
    ("leg: [a\nb]", "leg"), ("1 1/2", "1"),
])  # fmt: skip
def test_gitlab_puts_the_matrix_into_the_name(name, job):
    server = {"CI_SERVER_URL": "https://gitlab.example", "CI_PROJECT_ID": "42", "CI_PIPELINE_ID": "9", "CI_JOB_ID": "5"}
    read = gitlab_job.read_job(server | {"CI_JOB_NAME": name, "CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "3"})
    assert (read.id, read.index, read.total) == (_job(job, workflow="", run=9, attempt=5, job_id=5), 2, 3)
    child = gitlab_job.read_job(server | {"CI_JOB_NAME": name, "CI_PIPELINE_SOURCE": "parent_pipeline"})
    assert child.id.workflow == "pipeline 9"


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["a", "b"]), st.integers(1, 3), st.booleans()), max_size=12),
    st.randoms(),
)
def test_the_order_of_reports_does_not_matter(rows, chance):
    """Any order, any grouping, anything twice: the same legs count."""
    legs = [
        _leg(str(index), job=job, index=index, total=3, attempt=attempt, made=PASS if good else FAIL, job_id=number + 1)
        for number, (index, job, attempt, good) in enumerate(rows)
    ]
    whole = _keys(join(legs))
    chance.shuffle(legs)
    assert _keys(join(legs)) == whole
    assert _keys(join([*join(legs), *legs])) == whole
    assert isinstance(next((leg.report.origin for leg in legs), Origin(id="", group="", name="", job="")), Origin)
