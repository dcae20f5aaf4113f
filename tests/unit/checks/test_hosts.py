"""Every recorded host, played back: the verdict is the one that the matrix asserted on the host itself."""

import json

import pytest

from cgroup_preflight.cli import check
from tests.unit.checks import hosts

_EXIT = {"pass": 0, "fail": 1, "unverified": 3}


def test_each_host_is_expected_and_each_expected_one_is_there():
    assert set(hosts.NAMES) == set(hosts.expected())


@pytest.mark.parametrize("config", hosts.CONFIGS)
@pytest.mark.parametrize("name", hosts.NAMES)
def test_verdict_engine_and_codes(name, config):
    facts = hosts.facts_of(hosts.recording(name))
    context, findings = hosts.judge(facts, hosts.shop() if config == "shop" else None)
    assert hosts.summary(context, findings) == hosts.expected()[name][config]


@pytest.mark.parametrize("name", hosts.NAMES)
def test_through_the_command(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status = check.main(["--root", str(hosts.FOLDER / f"{name}.json"), "--format", "json"])
    report = json.loads(capsys.readouterr().out)
    wanted = hosts.expected()[name]["bare"]
    assert (status, report["verdict"], report["host"]["engine"] or "") == (
        _EXIT[wanted.verdict], wanted.verdict, wanted.engine,
    )  # fmt: skip


@pytest.mark.parametrize("name", hosts.NAMES)
def test_what_is_wrong_says_what_was_read_and_what_to_do(name):
    for config in (None, hosts.shop()):
        _, findings = hosts.judge(hosts.facts_of(hosts.recording(name)), config)
        for item in findings:
            if item.status in hosts.BAD:
                assert item.remedies, item
                assert item.evidence, item
                assert any("/" in key or " " in key for key in item.evidence), item


@pytest.mark.parametrize("name", hosts.NAMES)
def test_host_says_when_and_on_what_it_was_recorded(name):
    document = hosts.recording(name)
    assert set(document) - {"made_by_hand"} == {
        "format", "tool", "recorded_at", "kernel", "systemd", "host", "commands",
    }  # fmt: skip
    assert document["recorded_at"].endswith("Z")
