"""The policy as a user meets it: exceptions in the config and a baseline, each call a process of its own."""

import json

import pytest

from cgroup_preflight import __version__
from cgroup_preflight.cli import policy
from cgroup_preflight.cli.common import Started
from cgroup_preflight.config.load import load
from cgroup_preflight.core.codes import BINARY_FORMAT, STOP
from cgroup_preflight.core.policy import Ignore, Rules
from cgroup_preflight.core.report import Finding, Location, Report, ServiceResult, Status, Verdict
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.report import codec
from tests.unit.cli.calling import FILE, call

pytestmark = pytest.mark.starts_processes
PLAN = (
    "[project]\nname = 'shop'\n[slices.api]\nConcurrencyHardMax = 1{comment}\n[services.a]\nbinary = 'nowhere'\n"
    "slice = 'api'\n[services.b]\nbinary = 'nowhere'\nslice = 'api'\n"
)
FAILS = PLAN.format(comment="")
WARNS = (
    "[project]\nname = 'shop'\n[slices.api]\nMemoryMax = '512M'\n[services.a]\nbinary = 'nowhere'\nslice = 'api'\n"
    "MemoryMax = '1G'\n"
)


def ignoring(text, code="CGP219", **more):
    keys = {"code": code, "reason": "one at a time is the plan", **more}
    return text + "[[policy.ignore]]\n" + "".join(f"{key} = '{value}'\n" for key, value in keys.items())


def judged(tmp_path, text, *words):
    called = call(tmp_path, "validate", "--format=json", *words, config=text)
    return called.status, {item["code"]: item for item in json.loads(called.out)["findings"]}


def test_an_exception_with_a_reason_accepts_the_fail_and_shows_it(tmp_path):
    assert judged(tmp_path, FAILS)[0] == 1
    status, found = judged(tmp_path, ignoring(FAILS))
    assert status == 0
    assert (found["CGP219"]["status"], found["CGP219"]["policy"]["was"]) == ("skip", "fail")
    shown = call(tmp_path, "validate").out
    assert "1 failure ignored (CGP219 " in shown.splitlines()[0]
    assert shown.splitlines()[0].startswith("CHECKED: ")
    assert "one at a time is the plan" in shown


def test_an_exception_for_something_else_does_not(tmp_path):
    for text in (ignoring(FAILS, subject="other"), ignoring(FAILS, code="CGP212")):
        assert judged(tmp_path, text)[0] == 1


def test_thresholds_that_differ_from_the_defaults_are_named_in_one_line(tmp_path):
    assert "CGP222" not in judged(tmp_path, WARNS)[1]
    same = "[policy]\nheadroom_min = '20%'\nthrottled_max = '25%'\n"
    assert "CGP222" not in judged(tmp_path, WARNS + same)[1]
    lower = "[policy]\nheadroom_min = '5%'\n[services.a.policy]\nthrottled_max = '99.5%'\n"
    status, found = judged(tmp_path, WARNS + lower)
    assert status == 0
    assert (found["CGP222"]["status"], found["CGP222"]["subject"]) == ("skip", "policy")
    assert found["CGP222"]["message"] == (
        "thresholds that differ from the defaults: headroom_min 5% (default 20%); a: throttled_max 99.5% (default 25%)"
    )
    assert f"policy     {found['CGP222']['message']}" in call(tmp_path, "validate").out.splitlines()


def test_many_thresholds_stay_one_line(tmp_path):
    more = "".join(f"[services.s{n}]\nbinary = 'nowhere'\nslice = 'api'\n[services.s{n}.policy]\nheadroom_min = '1%'\n"
                   for n in range(9))  # fmt: skip
    _, found = judged(tmp_path, WARNS + more)
    assert found["CGP222"]["message"].endswith("; s5: headroom_min 1% (default 20%); and 3 more")


def test_a_comment_on_the_line(tmp_path):
    comment = "  # cgroup-preflight: ignore CGP219 one at a time"
    status, found = judged(tmp_path, PLAN.format(comment=comment))
    assert status == 0
    assert found["CGP219"]["policy"]["location"] == {"file": FILE, "line": 4}
    assert judged(tmp_path, FAILS + comment.strip() + "\n")[0] == 1


def test_an_expired_exception_is_a_warning_with_its_line_and_the_fail_is_back(tmp_path):
    text = ignoring(FAILS, until="2020-01-31")
    status, found = judged(tmp_path, text)
    assert status == 1
    assert (found["CGP220"]["status"], found["CGP220"]["location"]["line"]) == (
        "warn",
        text.count("\n", 0, text.index("[[")) + 1,
    )
    assert judged(tmp_path, ignoring(FAILS, until="2120-01-31"))[0] == 0


def test_fail_on_and_warn_on(tmp_path):
    assert judged(tmp_path, WARNS)[0] == 0
    status, found = judged(tmp_path, WARNS + "[policy]\nfail_on = ['CGP212']\n")
    assert status == 1
    assert found["CGP212"]["policy"] == {"by": "fail_on", "was": "warn", "reason": "", "until": "", "location": None}
    called = call(tmp_path, "validate", config=FAILS + "[policy]\nwarn_on = ['CGP219']\n")
    assert called.status == 2


def test_a_code_that_does_not_exist_is_a_mistake_with_its_line(tmp_path):
    called = call(tmp_path, "validate", config=ignoring(FAILS, code="CGP199"))
    assert called.status == 2
    assert f"{FILE}:11" in called.text
    assert "no check has the code CGP199" in called.text


SHOP = "[project]\nname = 'shop'\n"
SERVICE = SHOP + "[slices.api]\nMemoryMax = '1G'\n[services.a]\nbinary = 'nowhere'\nslice = 'api'\n"


def saved(tmp_path, change=lambda document: None):
    """A report of this version and project, edited by `change`, in the folder of the call."""
    before = Report(
        tool_version=__version__, verdict=Verdict.FAIL, host=None, findings=(STOPPED,), services=(),
        started_at="2026-01-01T00:00:00Z", duration_seconds=1.0, project="shop",
    )  # fmt: skip
    document = codec.document(before)
    change(document)
    path = tmp_path / "before.json"
    path.write_text(json.dumps(document))
    return path


SERVICE_RESULT = ServiceResult(name="a", engine="systemd", unit="a.service", cgroup="/a")
STOPPED = STOP.finding(Status.FAIL, "a", "it ran 12 s after SIGTERM")
STARTED = Started(wall=0.0, steady=0.0)


def rules_with(tmp_path, path):
    (tmp_path / FILE).write_text(SERVICE)
    return policy.rules_of(load(tmp_path / FILE), STARTED, str(path))


def test_a_baseline_forgives_what_it_has_and_new_findings_fail(tmp_path):
    rules = rules_with(tmp_path, saved(tmp_path))
    again, new = (
        STOP.finding(Status.FAIL, "a", "it ran 15 s after SIGTERM"),
        STOP.finding(Status.FAIL, "b", "it ran 15 s"),
    )
    assert policy.fails([again, new], rules)
    assert not policy.fails([again], rules)
    done = policy.judged([again, new], rules, whole=True)
    assert [(item.subject, item.status, item.is_waived) for item in done] == [
        ("a", Status.SKIP, True), ("b", Status.FAIL, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("services", "codes"), [((), ["CGP401", "CGP500"]), (None, ["CGP401"]), ((SERVICE_RESULT,), ["CGP401"])]
)
def test_only_a_run_that_ran_services_can_pass_by_an_ignore(services, codes):
    broken = BINARY_FORMAT.finding(Status.FAIL, "a", "it is not a program")
    ignore = Ignore(code="CGP401", reason="soon", location=Location(file=FILE, line=1))
    done = policy.judged([broken], Rules(ignores=(ignore,)), services)
    assert [item.code for item in done] == codes
    assert verdict_of(done) is Verdict.UNVERIFIED


@pytest.mark.parametrize("command", ["run", "smoke"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda document: document.update(project="other"),
            "the project 'other', and this call is about the project 'shop'",
        ),
        (lambda document: document.pop("project"), "no project"),
        (lambda document: document["tool"].update(version="0.0.1\x1b[31m"), f"and this is {__version__}"),
        (lambda document: document.update(schema_version=2), "newer than the 1"),
        (lambda document: document.update(verdict="pass"), "better than its findings"),
        (lambda document: document["findings"][0].update(status="great"), "not a word that the schema allows"),
    ],
)
def test_a_baseline_of_something_else_is_a_wrong_call(tmp_path, change, says, command):
    saved(tmp_path, change)
    called = call(tmp_path, command, "--baseline=before.json", config=SERVICE)
    assert called.status == 2
    assert says in called.err
    assert "\x1b" not in called.err


def test_a_baseline_that_is_no_report(tmp_path):
    (tmp_path / "text.json").write_text("no report")
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(40 << 20)
    for name, says in (("missing.json", "cannot read it"), ("text.json", "not a report"), (".", "cannot read it"),
                       ("/dev/zero", "cannot read it"), ("large.json", "larger than 32 MiB")):  # fmt: skip
        called = call(tmp_path, "run", f"--baseline={name}", config=SERVICE)
        assert called.status == 2, name
        assert says in called.err


def test_the_baseline_of_this_project_is_read_before_the_programs(tmp_path):
    saved(tmp_path)
    called = call(tmp_path, "run", "--baseline=before.json", config=SERVICE)
    assert "baseline" not in called.err
    assert "nowhere" in called.text


def test_without_a_policy_no_report_says_anything_of_one(tmp_path):
    _, found = judged(tmp_path, FAILS)
    assert all("policy" not in item for item in found.values())


def test_of_several_guests_one_without_services_is_no_pass_because_of_an_ignore():
    broken = Finding(code="CGP104", name="made", status=Status.FAIL, subject="debian-12: systemd", message="too old")
    rules = Rules(
        ignores=(
            Ignore(code="CGP104", subject="debian-12: *", reason="known", location=Location(file="x.toml", line=7)),
        ),
        machines=("debian-12", "debian-13"),
    )

    def ran(*names):
        services = [ServiceResult(name=name, engine="guest", unit="", cgroup="") for name in names]
        return [(item.subject, item.code, item.status) for item in policy.judged([broken], rules, services)[1:]]

    assert ran("debian-13: worker") == [("debian-12: services", "CGP500", Status.UNVERIFIED)]
    assert ran("debian-12: worker", "debian-13: worker") == []
    assert ran("debian-12: worker") == []
    assert ran() == [("services", "CGP500", Status.UNVERIFIED)]
