"""`rollout --host`: what is decided before a host is asked, and a host that cannot be."""

import json

import pytest

from cgroup_preflight.cli.rollout import main
from cgroup_preflight.core.errors import ConfigError, UsageError

CONFIG = '[project]\nname = "x"\n[rollout.slices.api]\nCPUQuota = "50%"\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "cgroup-preflight.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    # Without an ssh: no test connects.
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_host_that_cannot_be_asked_is_unverified_and_named(project, capsys):
    state = ["--state", str(project / "state")]
    assert main(["plan", "--host", "web1", "--host", "me@web2", "--format", "json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert [(item["code"], item["status"], item["subject"]) for item in report["findings"]] == [
        ("CGP129", "unverified", "web1"), ("CGP129", "unverified", "me@web2")]  # fmt: skip
    assert "ssh" in report["findings"][0]["message"]
    assert main(["apply", "--yes", "--host", "web1", *state]) == 3
    assert not (project / "state/hosts/web1/lock").exists()


def test_nobody_is_asked_for_each_host(project):
    for action in ("apply", "abort"):
        with pytest.raises(UsageError, match="it needs --yes"):
            main([action, "--host", "web1", "--state", str(project / "state")])


@pytest.mark.parametrize("name", ["-oProxyCommand=x", "a b", "a;b", "", "a@-b"])
def test_what_ssh_could_take_for_an_option_is_no_host(project, name):
    assert project
    with pytest.raises(UsageError):
        main(["plan", f"--host={name}"])


def test_a_wrong_config_is_a_wrong_call(project):
    (project / "cgroup-preflight.toml").write_text("[project\n")
    with pytest.raises(ConfigError):
        main(["plan", "--host", "web1"])
    (project / "cgroup-preflight.toml").write_text(
        CONFIG + '[rollout.prometheus]\nurl = "http://192.0.2.1:9090"\nqueries = ["up < 2"]\n'
    )
    with pytest.raises(UsageError, match="another machine"):
        main(["apply", "--yes", "--host", "web1"])


def test_a_recording_is_no_host(project):
    with pytest.raises(UsageError, match="recording"):
        main(["plan", "--host", "web1", "--snapshot", str(project)])


def test_the_journals_of_hosts_are_apart(project):
    for name in ("web1", "me@web1"):
        with pytest.raises(UsageError, match="no rollout") as error:
            main(["journal", "--host", name, "--state", str(project / "state")])
        assert error.value.where == str(project / "state/hosts" / name)
    with pytest.raises(UsageError, match="one host"):
        main(["journal", "--host", "a", "--host", "b", "--state", str(project / "state")])
