"""A fleet of 1,000 recorded hosts in one view: what each host can do to the verdict, and what a forge takes."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.cli import common
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Finding, Report, Status
from cgroup_preflight.report import codec
from cgroup_preflight.rollout import journal as journals
from cgroup_preflight.rollout.outcome import findings_of
from cgroup_preflight.rollout.prepare import prepare
from tests.contract.forge import github as gh
from tests.unit.core.making import config_of
from tests.unit.engines.machine import NUMBERS
from tests.unit.publish.jobs import github_env, gitlab_env
from tests.unit.rollout.played import Game
from tests.unit.rollout.test_run import NEW, OLD, harm

CONFIG = '[rollout]\nsteps = ["50%", "100%"]\n[rollout.slices.a]\nCPUQuota = "100%"\nMemoryMax = "256M"\n'
COUNT = 1000


def _recorded(folder: Path, *, good: bool) -> Report:
    """A rollout on a played host, and the report of its `apply`."""
    folder.mkdir(mode=0o700)
    game = Game(str(folder), OLD, NEW)
    if not good:
        game.watcher = harm()
    planned = prepare(config_of(CONFIG), game.manager, NUMBERS, cpus=4).findings
    game.play()
    found = journals.read(game.path)
    assert found is not None
    return common.report(common.start(), None, (*planned, *findings_of(found.state, found.records)))


def _named(item: Finding, name: str) -> Finding:
    """As another host would say it: with the number of its own rollout, and with numbers of its own where it failed."""
    message = f"{item.message}, {name}" if item.status is Status.FAIL else item.message
    return replace(item, subject=name if "phase" in item.evidence else item.subject, message=message)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Report]:
    folder = tmp_path_factory.mktemp("played")
    return _recorded(folder / "good", good=True), _recorded(folder / "bad", good=False)


@pytest.fixture
def fleet(tmp_path, reports):
    """`fleet(bad=..., torn=..., absent=...)`: how many hosts of each kind; the words for `publish`."""

    def make(*, bad: int = 0, torn: int = 0, absent: int = 0, count: int = COUNT) -> list[str]:
        folder = tmp_path / "hosts"
        folder.mkdir()
        names = [f"host-{number:04d}.example" for number in range(count)]
        (tmp_path / "hosts.txt").write_text("".join(f"{name}\n" for name in names))
        for number, name in enumerate(names[absent:]):
            chosen = reports[1] if number < bad else reports[0]
            found = tuple(_named(item, f"20261129-1700-{number:04x}") for item in chosen.findings)
            text = codec.render(replace(chosen, findings=found))
            broken = bad <= number < bad + torn
            (folder / f"{name}.json").write_text(text[: len(text) // 2] if broken else text)
        return ["--hosts", "hosts.txt", "--format", "json=all.json", "--format", "markdown=all.md", "--", "hosts"]

    return make


@pytest.mark.parametrize(("kinds", "verdict", "status"), [
    ({}, "pass", 0), ({"bad": 1}, "fail", 1), ({"absent": 1}, "unverified", 3), ({"torn": 1}, "unverified", 3),
    ({"bad": 1, "absent": 1, "torn": 1}, "fail", 1),
])  # fmt: skip
def test_one_host_decides_the_verdict_on_a_thousand(call, fleet, tmp_path, kinds, verdict, status):
    words = fleet(**kinds)
    started = time.process_time()
    assert call({}, "--fail-on", "unverified", *words) == status
    seconds = time.process_time() - started
    report, page = json.loads((tmp_path / "all.json").read_text()), (tmp_path / "all.md").read_text()
    assert report["verdict"] == verdict
    assert page.startswith({"pass": "## ✅", "fail": "## ❌", "unverified": "## ⚠️"}[verdict])
    assert f"**{COUNT} hosts:**" in page
    assert f"✅ {COUNT - sum(kinds.values())} pass" in page
    assert len(report["findings"]) < 30, "equal findings once"
    said = " ".join(item["message"] for item in report["findings"] if item["status"] in ("fail", "unverified"))
    expected = {"bad": "the old values are back", "absent": "there is no report", "torn": "this is not a report"}
    assert [name for name, text in expected.items() if text in said] == [name for name in expected if name in kinds]
    assert said.count(f"on 1 of {COUNT} hosts: host-") == len(kinds)
    print(f"{seconds:.2f} s of CPU time for {COUNT} hosts")


def test_values_of_one_slice_stay_apart(call, fleet, tmp_path):
    call({}, *fleet(count=3))
    found = [
        item["message"]
        for item in json.loads((tmp_path / "all.json").read_text())["findings"]
        if item["code"] == "CGP801"
    ]
    assert found == [
        "CPUQuota: 200% -> 150% -> 100% (on all 3 hosts)", "MemoryMax: 512M -> 384M -> 256M (on all 3 hosts)",
    ]  # fmt: skip
    assert "| <code>a.slice</code> | CPUQuota" in (tmp_path / "all.md").read_text()


def test_a_thousand_bad_hosts_are_one_annotation_that_the_forges_take(call, fleet, tmp_path, github, gitlab):
    """Every host has a reason of its own: the worst case for the sizes."""
    words = fleet(bad=900, torn=50, absent=50)
    assert call(github_env(github, tmp_path), "--publish", "strict", *words) == 0
    (check,) = github.checks
    (comment,) = github.comments
    assert (check["conclusion"], check["head_sha"]) == ("failure", gh.SHA)
    assert len(check["annotations"]) == 250
    assert len(comment["body"]) <= 65_536
    assert all(len(check["output"][part]) <= 65_535 for part in ("summary", "title"))
    assert "❌ 900 fail, ⚠️ 100 unverified" in comment["body"]
    assert "Left out to stay below" in comment["body"]
    assert call(gitlab_env(gitlab, tmp_path), "--publish", "strict", *words) == 0
    (note,) = gitlab.notes
    assert len(note["body"]) <= 1_000_000
    assert note["body"].startswith("## ❌ cgroup-preflight FAIL")
    folder = tmp_path / "cgroup-preflight-reports"
    assert (folder / "preflight.env").stat().st_size <= 5 << 10
    assert (folder / "junit.xml").stat().st_size < 30 << 20
    assert len(json.loads((folder / "codequality.json").read_text())) > 900


@pytest.mark.parametrize(("names", "words", "said"), [
    ("", ["--hosts", "hosts.txt", "hosts"], "not names of hosts"), ("../x\n", ["--hosts", "hosts.txt", "hosts"], "not names of hosts"),
    ("a\n", ["--hosts", "absent.txt", "hosts"], "cannot read the names"), ("a\n", ["--hosts", "hosts.txt"], "one folder"),
    ("a\n", ["--hosts", "hosts.txt", "--expect", "a", "hosts"], "one folder"), ("\udcff", ["--hosts", "hosts.txt", "hosts"], "not text"),
    ("\n".join(f"h{number}" for number in range(2001)), ["--hosts", "hosts.txt", "hosts"], "at most 2000"),
])  # fmt: skip
def test_wrong_names_of_hosts(call, tmp_path, names, words, said):
    (tmp_path / "hosts.txt").write_text(names, errors="surrogateescape")
    (tmp_path / "hosts").mkdir()
    with pytest.raises(UsageError) as caught:
        call({}, *words)
    assert said in str(caught.value)


def test_no_report_of_any_host_is_no_pass(call, tmp_path):
    (tmp_path / "hosts.txt").write_text("a\nb\n\nb\n")
    assert call({}, "--hosts", "hosts.txt", "--fail-on", "unverified", "--format", "json=all.json", "absent") == 3
    (found,) = json.loads((tmp_path / "all.json").read_text())["findings"]
    assert found["message"].endswith("(on all 2 hosts)")
