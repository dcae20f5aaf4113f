"""An edited report is refused wherever reports are read; what this tool writes never is."""

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight import __version__
from cgroup_preflight.artifacts import request as asked
from cgroup_preflight.cli import guard
from cgroup_preflight.config.model import Require
from cgroup_preflight.config.properties import PROPERTIES, Role
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import CpuUsage, LimitResult, Origin, Report, Status
from cgroup_preflight.core.slack import memory_slack
from cgroup_preflight.engines.ready import Readiness
from cgroup_preflight.guest.answer import read_report
from cgroup_preflight.guest.run import GuestTask
from cgroup_preflight.guest.spec import CommandResult, GuestError
from cgroup_preflight.publish.comment_state import RunId, State, decode, encode, fitted
from cgroup_preflight.publish.options import view
from cgroup_preflight.report import codec
from cgroup_preflight.report.contradictions import SHARES, contradictions
from cgroup_preflight.report.escape import log_lines
from cgroup_preflight.report.merge import Leg
from cgroup_preflight.report.read import ReportShapeError, report_from, report_of
from cgroup_preflight.smoke.counters import counted_findings
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.findings import service_findings, service_result
from cgroup_preflight.smoke.required import required_findings
from tests.unit.artifacts.making import ONE_SERVICE, request
from tests.unit.core.making import config_of
from tests.unit.report.samples import GOOD, PROVED, few, finding, report, reports
from tests.unit.smoke import fabricate as fake

NAME = "user-api"
WEIGHT = "run.slice/run-user-api.service/io.weight"
TESTED = finding(
    Status.PASS,
    code="CGP302",
    name="tested-binary",
    subject=NAME,
    evidence={"sha256": "a" * 64, "config_sha256": "c" * 64},
)
#: What `run` of `ONE_SERVICE` would say after a pass.
PROOF = replace(
    report(*(replace(item, subject=NAME) for item in PROVED), TESTED, services=(replace(GOOD, name=NAME),)),
    tool_version=__version__,
)


def _edited(*changes: tuple[list[object], object]) -> dict[str, object]:
    document = json.loads(codec.render(PROOF))
    for path, value in changes:
        at = document
        for key in path[:-1]:
            at = at[key]
        if value is None and path[-1] not in ("actual", "oom_kills", "result", "exit_status"):
            del at[path[-1]]
        else:
            at[path[-1]] = copy.deepcopy(value)
    return document


S = ["services", 0]
EDITS = [
    ([(["findings", 0, "status"], "fail")], "better than its findings: findings[0].status is fail"),
    ([(["findings", 2, "status"], "unverified")], "better than its findings: findings[2].status is unverified"),
    ([(["findings"], [])], "better than its findings: no finding passed"),
    ([([*S, "limits", 1, "ok"], False)], "services[0].limits[1].ok is false, and the verdict is pass"),
    ([([*S, "limits", 1, "actual"], None)], "services[0].limits[1].ok is true, and nothing was read"),
    ([([*S, "limits", 1, "actual"], "max 100000")], "services[0].limits[1].ok is true, and actual is not what is expected"),
    ([([*S, "limits", 0, "expected"], "1")], "services[0].limits[0].ok is true, and actual is not what is expected"),
    ([([*S, "limits"], [])], "services[0].limits is empty, and a finding CGP501 passed"),
    ([([*S, "limits", 1], None)], "services[0].limits has 1 entries, and a finding CGP501 counted others"),
    ([(["findings", 0, "evidence"], {"files": 3})], "services[0].limits has 2 entries"),
    ([(["findings", 0], None), ([*S, "limits"], [])], "services[0] has no finding CGP501"),
    ([(["findings", 0, "subject"], "other")], "services[0] has no finding CGP501"),
    ([(["findings", 1], None)], "services[0] has no finding CGP503 that passed"),
    ([(["findings", 1, "status"], "warn")], "services[0] has no finding CGP503 that passed"),
    ([([*S, "memory_max_bytes"], 1 << 20), ([*S, "memory_peak_bytes"], 32 << 20)], "services[0].memory_peak_bytes is above"),
    ([([*S, "oom_kills"], 1)], "services[0].oom_kills is above 0"),
    ([([*S, "oom_kills"], None)], "services[0].oom_kills is null where memory is limited"),
    ([([*S, "result"], "oom-kill")], "services[0] did not end well"),
    ([([*S, "result"], None)], "services[0] did not end well"),
    ([([*S, "exit_status"], None)], "services[0] did not end well"),
    ([([*S, "cpu", "nr_throttled"], 21)], "services[0].cpu.nr_throttled is more than nr_periods"),
    ([(["services"], [codec.document(PROOF)["services"][0]] * 2)], "services[1].name is that of an earlier service"),
    # A failed share is excused by a warning about that very file, and only a share is.
    ([([*S, "limits", 1, "file"], WEIGHT), ([*S, "limits", 1, "ok"], False), ([*S, "limits", 1, "actual"], None)], "limits[1].ok is false"),
    (
        [([*S, "limits", 1, "ok"], False), ([*S, "limits", 1, "actual"], None), (["findings", 0, "status"], "warn"),
         (["findings", 0, "evidence"], {"run.slice/cpu.max": "x"})],
        "services[0].limits[1].ok is false",
    ),
    ([(["schema_version"], 2)], "schema_version is 2, newer than the 1 that this version reads: update cgroup-preflight"),
    ([(["schema_version"], 0)], "schema_version is 0, older than 1: run again with this version"),
    ([(["schema_version"], None)], "schema_version is missing: run again with this version"),
]  # fmt: skip


class _Guest:
    """Stands in for a booted guest, which no unit test has; only its name and its console are asked for."""

    spec = SimpleNamespace(name="guest debian-12")

    def console_tail(self) -> tuple[str, ...]:
        return ()


def _from_guest(data: bytes) -> Report:
    config = config_of(ONE_SERVICE.replace("{limit}", "64M"))
    task = GuestTask(config=config, words=("run",), names=(), distro="debian-12")
    return read_report(_Guest(), task, CommandResult(argv=(), returncode=0, stdout=data, stderr=b""))  # type: ignore[arg-type]


def _put(folder: Path, document: object) -> tuple[str, bytes]:
    data = json.dumps(document).encode()
    (folder / "r.json").write_bytes(data)
    return str(folder / "r.json"), data


def test_the_report_itself_is_taken_by_all(tmp_path, capsys):
    path, data = _put(tmp_path, _edited())
    assert asked.with_report(path, request()).tested.binaries == {NAME: "a" * 64}
    assert _from_guest(data) == report_of(data)
    assert guard.run_command(["publish", path]) == 0


@pytest.mark.parametrize(("changes", "said"), EDITS, ids=[said for _, said in EDITS])
def test_a_contradiction_is_refused_by_all_who_read_reports(tmp_path, capsys, changes, said):
    path, data = _put(tmp_path, _edited(*changes))
    assert guard.run_command(["publish", path]) == 2
    assert said in capsys.readouterr().err
    with pytest.raises(UsageError) as refused:
        asked.with_report(path, request())
    assert said in str(refused.value)
    with pytest.raises(GuestError) as odd:
        _from_guest(data)
    assert said in odd.value.what


def test_a_report_about_a_key_that_is_there_twice_is_refused_by_all(tmp_path, capsys):
    _, data = _put(tmp_path, _edited())
    data = data.replace(b'"verdict": "pass"', b'"verdict": "fail", "verdict": "pass"')
    path = tmp_path / "r.json"
    path.write_bytes(data)
    assert guard.run_command(["publish", str(path)]) == 2
    with pytest.raises(UsageError, match="repeated key"):
        asked.with_report(str(path), request())
    with pytest.raises(GuestError):
        _from_guest(data)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([(["services"], [])], f"no result of {NAME}"),
        ([([*S, "name"], "other"), (["findings", 0, "subject"], "other"), (["findings", 1, "subject"], "other")], "no result"),
        ([([*S, "limits"], []), (["findings", 0, "status"], "warn")], "has no limit in force"),
        ([(["findings", 2, "evidence", "config_sha256"], "d" * 64)], "used another config"),
        ([(["findings", 2], None)], "names no tested program"),
        ([(["findings", 1], codec.document(PROOF)["findings"][2])], "has no finding CGP503"),
    ],
)  # fmt: skip
def test_what_only_inject_can_know(tmp_path, changes, said):
    path, _ = _put(tmp_path, _edited(*changes))
    with pytest.raises(UsageError) as refused:
        asked.with_report(path, request())
    assert said in str(refused.value)


def test_a_program_that_was_tested_twice_is_no_proof(tmp_path):
    document = _edited()
    document["findings"].append(document["findings"][2])
    path, _ = _put(tmp_path, document)
    with pytest.raises(UsageError, match="names a tested program twice"):
        asked.with_report(path, request())


def test_a_swap_limit_alone_proves_nothing(tmp_path):
    """A kernel without swap accounting has no file for it, so the service would run without any limit."""
    path, _ = _put(tmp_path, _edited(([*S, "limits"], []), (["findings", 0, "status"], "skip")))
    only_swap = ONE_SERVICE.replace('MemoryMax = "{limit}"', "MemorySwapMax = 0").replace('CPUQuota = "50%"\n', "")
    with pytest.raises(UsageError, match="has no limit in force"):
        asked.with_report(path, request(only_swap))


def test_a_proof_of_several_guests(tmp_path):
    document = _edited()
    names = [f"{distro}: {NAME}" for distro in ("debian-12", "debian-13")]
    document["services"] = [{**document["services"][0], "name": name} for name in names]
    document["findings"] = [document["findings"][2]] + [
        {**item, "subject": name} for name in names for item in document["findings"][:2]
    ]
    path, _ = _put(tmp_path, document)
    assert asked.with_report(path, request()).tested.verdict == "pass"


@pytest.mark.parametrize(
    ("attribute", "expected", "actual", "ok"),
    [
        ("io.weight", "60", "default 60", True),
        ("io.weight", "60", "default 100", False),
        ("cpuset.cpus.effective", "0-8", "0-1", True),
        ("cpuset.cpus.effective", "0", "0-1", False),
        ("cpuset.cpus", "0,1", "0-1", True),
        ("memory.max", "67108864", "67108864", True),
        ("memory.max", "67108864", "max", False),
    ],
)
def test_the_kernel_says_the_same_in_its_own_ways(attribute, expected, actual, ok):
    limit = LimitResult(file=f"a.slice/{attribute}", expected=expected, actual=actual, ok=True)
    made = replace(PROOF, services=(replace(PROOF.services[0], limits=(PROOF.services[0].limits[0], limit)),))
    if ok:
        assert report_from(codec.document(made)) == made
    else:
        with pytest.raises(ReportShapeError, match=r"limits\[1\].ok is true, and actual"):
            report_from(codec.document(made))


def test_throttled_time_without_a_throttled_period_can_be():
    """It ended within its period: the kernel counts the time, and no period."""
    cpu = CpuUsage(usage_usec=1, nr_periods=3, nr_throttled=0, throttled_usec=700)
    made = replace(PROOF, services=(replace(PROOF.services[0], cpu=cpu),))
    assert report_from(codec.document(made)) == made


def test_shares_are_those_of_the_table():
    assert {item.attribute for item in PROPERTIES if item.role is Role.SHARE} | {"cpu.idle"} == SHARES


# What the tool makes, read back.

_texts = st.sampled_from(["max", "67108864", "default 60", "50000 100000", "", "0"])
_counts = st.integers(0, 2**40)


@st.composite
def _cpu(draw: st.DrawFn) -> object:
    periods = draw(_counts)
    full = {
        "usage_usec": draw(_counts), "nr_periods": periods, "nr_throttled": draw(st.integers(0, periods)),
        "throttled_usec": draw(_counts),
    }  # fmt: skip
    return draw(st.sampled_from([full, {"usage_usec": 5}, fake.ABSENT]))


_ASPECTS = {
    "counters": st.none() | st.builds(
        fake.counters, cpu=_cpu(), events=st.sampled_from([None, {"low": 0}, {"oom_kill": 2}, fake.ABSENT])
    ),
    "ready": st.sampled_from([None, Readiness(ok=False, seconds=1.0, why="x"), Readiness(ok=False, seconds=0.0, blocked=True)]),
    "stay": st.sampled_from([None, fake.stay(strays=((7, "/x"),)), fake.stay(fake.DENIED), fake.stay("/x")]),
    "effective": st.sampled_from([None, fake.effective(memory=16 << 20, memory_at="/x")]),
    "refused": st.just("no"), "cgroup": st.just(""), "ended_early": st.just(True), "killed": st.just(True),
    "silent": st.just("hung"),
    "state": st.builds(
        fake.state, st.sampled_from(["success", "exit-code", "signal", "oom-kill", "timeout", ""]),
        st.sampled_from(["0", "1", "2"]), st.sampled_from(["0", "3", "15", ""]),
    ),
}  # fmt: skip
_limits = st.fixed_dictionaries({}, optional={
    "memory_max": _texts | st.just(fake.DENIED), "io_weight": _texts | st.just(fake.ABSENT), "pids_max": _texts,
    "memory_swap_max": st.just(fake.ABSENT), "cpu_weight": st.just(fake.ABSENT), "cpu_max": st.just(fake.ABSENT),
})  # fmt: skip
_harmless = st.fixed_dictionaries(
    {}, optional={name: st.just(fake.ABSENT) for name in ("io_weight", "memory_swap_max", "cpu_weight")}
)
_BARE = '[services.web]\nbinary = "dist/web"\n[services.web.smoke]\nready = "exit"\n'
_SWAP = _BARE.replace("[services.web.smoke]", "MemorySwapMax = 0\n[services.web.smoke]")


@st.composite
def _evidence(draw: st.DrawFn, name: str) -> ServiceEvidence:
    """A run in which none, one or two things went wrong."""
    job = fake.TEXT.replace('"http://127.0.0.1:8080/healthz"', '"exit"')
    text = draw(st.sampled_from([fake.TEXT, job, _BARE, _SWAP])).replace("services.web", f"services.{name}")
    odd = {aspect: draw(_ASPECTS[aspect]) for aspect in draw(st.sets(st.sampled_from(sorted(_ASPECTS)), max_size=2))}
    values = {
        "limits": fake.limits(text, enabled=draw(st.booleans()), **draw(_harmless | _limits)),
        "counters": fake.counters(cpu=draw(_cpu())), "duration_seconds": draw(st.floats(0, 1e6)),
        "log": tuple(draw(st.lists(st.text(max_size=400), max_size=25))),
    }  # fmt: skip
    return fake.evidence(text, **(values | odd))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_a_run_reports_is_always_read(data):
    seen = [data.draw(_evidence(name)) for name in data.draw(st.sampled_from([["web"], ["web", "other"]]))]
    required = data.draw(st.sampled_from([(), ("cpu", "io")]))
    swap = data.draw(st.booleans())
    findings = [item for one in seen for item in service_findings(one, required=required, swap=swap)]
    plans = [replace(fake.plan(), services=(one.service,)) for one in seen]
    findings += [item for made in plans for item in required_findings(made, Require())]
    made = report(*findings, *counted_findings(seen), services=tuple(map(service_result, seen)))
    back = report_of(codec.render(made).encode())
    logs = tuple(replace(item, log_tail=tuple(log_lines(item.log_tail))) for item in made.services)
    assert back == replace(made, services=logs)


@few
@given(reports(), reports(), reports())
def test_what_is_merged_is_always_read(one, two, three):
    legs = tuple(
        Leg(name=name, report=_placed(made)) for name, made in (("one", one), ("two", two), ("two (2)", three))
    )
    for some in (legs, legs[:1]):
        merged = view(some).report
        assert report_of(codec.render(merged).encode()).verdict is merged.verdict


def _placed(made: Report) -> Report:
    """UnitPaths as runs make them: the strategy's have lines that no file has."""
    return replace(made, findings=tuple(replace(item, location=None) for item in made.findings))


def test_a_pass_without_its_findings_is_not_kept_in_a_comment():
    """So many legs that nothing but the verdict of each fits: it comes back all the same."""
    many = [finding(Status.PASS, code=f"CGP1{number:02d}", message=f"{number}" * 90) for number in range(60)]
    passed, failed = report(*many), report(finding(Status.FAIL), *many)
    legs = tuple(
        Leg(
            name=f"{number * 7919:x}{number * 104729:x}",
            report=replace(
                failed if number % 5 else passed,
                origin=Origin(id=hashlib.sha256(b"%d" % number).hexdigest()[:24], group="g" * 24, name="", job="leg"),
            ),
        )
        for number in range(400)
    )
    state = fitted(State(key="k", run=RunId(run=1, attempt=1), sha="1" * 40, legs=legs))
    assert len(state.legs) == 400
    assert all(len(leg.report.findings) == 1 for leg in state.legs)
    assert decode(encode(state), "k") == state


@pytest.mark.parametrize(("own", "more"), [(True, 0), (False, 2 << 20)])
def test_a_huge_page_that_a_slice_refused_contradicts_nothing(own, more):
    """Each of two CPUs can charge one before the level above refuses it; a limit of its own is strict."""
    at = f"{GOOD.cgroup.lstrip('/')}/memory.max" if own else "run.slice/memory.max"
    limits = (LimitResult(file=at, expected="67108864", actual="67108864", ok=True), *GOOD.limits[1:])
    most = (64 << 20) + memory_slack(2, 4096) + 2 * more
    for peak, said in ((most, []), (most + 1, ["services[0].memory_peak_bytes is above memory_max_bytes"])):
        service = replace(GOOD, name=NAME, limits=limits, memory_peak_bytes=peak, memory_max_bytes=64 << 20)
        found = [item.partition(",")[0] for item in contradictions(replace(PROOF, services=(service,)))]
        assert found == said
