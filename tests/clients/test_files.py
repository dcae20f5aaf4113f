"""action.yml, the template, the command line, the config's schema and the docs say the same; linters find nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from ci import action_entry, lock

from cgroup_preflight.cli import publish
from cgroup_preflight.config import schema as config_schema
from cgroup_preflight.config.keys import ENGINES
from cgroup_preflight.report import FORMATS, schema
from tests.clients.helpers import ROOT, run
from tests.unit.cli.test_hosts import SSH
from tests.unit.host.remote.ends import SFTP_SERVER
from tests.unit.publish.jobs import write_report

ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
TEMPLATE = (ROOT / ".gitlab-ci-template.yml").read_text("utf-8")
HEAD, JOBS = re.split(r"^---$", TEMPLATE, flags=re.MULTILINE)
INPUTS = yaml.safe_load(HEAD)["spec"]["inputs"]
#: Inputs that one forge has no use for.
ONLY_GITHUB = {
    "commit", "formats", "reports", "check", "leg", "identity", "expect", "pull-request", "token", "version",
}  # fmt: skip
ONLY_GITLAB = {"package", "apt", "stage", "job-prefix", "image", "allow-failure"}


def tool(name):
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is not installed; run this through `nox -s clients`"
    return found


def check(*argv, folder=ROOT):
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


def _options(parser):
    return {name: action for action in parser._actions for name in action.option_strings}


def test_action_and_template_have_the_same_inputs():
    assert set(ACTION["inputs"]) - ONLY_GITHUB == set(INPUTS) - ONLY_GITLAB
    for name in set(ACTION["inputs"]) & set(INPUTS) - {"python"}:
        assert ACTION["inputs"][name]["default"] == INPUTS[name]["default"], name


def test_choices_are_those_of_the_command():
    options = _options(publish.arguments())
    for name in ("comment", "publish", "check", "fail-on"):
        choices = tuple(options[f"--{name}"].choices)
        assert set(action_entry.CHOICES[f"CGPF_{name.upper().replace('-', '_')}"]) == set(choices)
        if name in INPUTS:
            assert set(INPUTS[name]["options"]) == set(choices)
        assert all(choice in ACTION["inputs"][name]["description"] for choice in choices)
    assert set(INPUTS["engine"]["options"]) == {"", *ENGINES} == set(action_entry.CHOICES["CGPF_ENGINE"])
    assert all(engine in ACTION["inputs"]["engine"]["description"] for engine in ENGINES)
    assert all(item in ACTION["inputs"]["formats"]["description"] for item in FORMATS)


@pytest.mark.parametrize(("given", "wanted"), [
    ({"CGPF_SNAPSHOTS": " hosts/ \n\n-x.json"}, ["rollout", "plan", "--snapshot=hosts/", "--snapshot=-x.json"]),
    ({"CGPF_SNAPSHOTS": ""}, None), ({"CGPF_SNAPSHOTS": " \n"}, None), ({"CGPF_SNAPSHOTS": "a", "CGPF_REQUIRE": "cpu"}, None),
    ({"CGPF_SNAPSHOTS": "a", "CGPF_TARGET": "run"}, None), ({"CGPF_SNAPSHOTS": "a", "CGPF_TARGET": "rollout apply"}, None),
])  # fmt: skip
def test_a_plan_of_a_rollout_needs_recordings_and_is_nothing_more(given, wanted):
    environ = {"CGPF_TARGET": "rollout-plan"} | given
    if wanted is None:
        with pytest.raises(action_entry.InputError):
            action_entry.check_inputs(environ)
        return
    action_entry.check_inputs(environ)
    words = action_entry.run_words(environ, "r.json")
    assert words[:4] == wanted
    assert not {"apply", "--yes", "resume", "abort"} & set(words)


@pytest.mark.parametrize(("target", "words"), [("run", ["--baseline=-b.json"]), ("check", []), ("rollout-plan", [])])
def test_a_baseline_reaches_a_run_alone(target, words):
    given = {"CGPF_TARGET": target, "CGPF_RUN_BASELINE": "-b.json", "CGPF_SNAPSHOTS": "a"}
    assert [word for word in action_entry.run_words(given, "r.json") if "baseline" in word] == words


def test_schemas_know_the_same_words():
    engine = config_schema.schema()["properties"]["smoke"]["properties"]["engine"]
    assert {"", *engine["enum"]} == set(INPUTS["engine"]["options"])
    verdict = ACTION["outputs"]["verdict"]["description"]
    assert all(word in verdict for word in schema.schema()["properties"]["verdict"]["enum"])


def test_the_readme_shows_what_is_there():
    readme = (ROOT / "README.md").read_text("utf-8")
    formats = re.search(r"--format ([a-z|]+)", readme)[1].split("|")
    assert set(formats) == set(FORMATS) - {"text"}
    steps, pipeline = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL))
    assert steps == [{"uses": "org/cgroup-preflight@v1"}]
    (included,) = pipeline["include"]
    assert (ROOT / included["file"]).is_file()
    assert set(included.get("inputs", ())) <= set(INPUTS)
    pages = re.findall(r"\]\((docs/[a-z./-]+)\)", readme)
    assert [page for page in pages if not (ROOT / page).exists()] == []


def test_every_input_reaches_the_entry_and_no_shell():
    text = (ROOT / "action.yml").read_text("utf-8")
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
    for name in set(ACTION["inputs"]) - {"token", "working-directory"}:
        assert f"CGPF_{name.upper().replace('-', '_')}: ${{{{ inputs.{name} }}}}" in text
    assert all(
        re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]) for step in ACTION["runs"]["steps"] if "uses" in step
    )


@pytest.mark.parametrize(("given", "wanted"), [
    ("", []), ('{"os": "ubuntu-24.04", "go": [1, 2], "n": 3}', ["--leg=ubuntu-24.04, [1, 2], 3"]), ("mine", ["--leg=mine"]),
    ("null", []), ("3", ["--leg=3"]), ("{mine", ["--leg={mine"]),
])  # fmt: skip
def test_a_matrix_names_its_legs(given, wanted):
    environ = {"CGPF_REPORT": "r", "CGPF_LEG": given}
    words = action_entry.publish_words(environ, "")
    assert [word for word in words if word.startswith("--leg")] == wanted
    merged = action_entry.publish_words(environ | {"CGPF_TARGET": "publish", "CGPF_REPORTS": "r"}, "")
    assert ("--leg=ubuntu-24.04, [1, 2], 3" in merged) is False


IDENTITY = {"matrix": {"os": "a", "n": 1}, "index": "1", "total": "3", "job": "77"}


@pytest.mark.parametrize(("identity", "wanted"), [
    (IDENTITY, ['--matrix={"os": "a", "n": 1}', "--position=2/3"]),
    (IDENTITY | {"matrix": None, "index": "0", "total": "1"}, ["--position=1/1"]),
    (IDENTITY | {"index": "", "total": "", "job": ""}, ['--matrix={"os": "a", "n": 1}']),
    (IDENTITY | {"index": "3"}, ['--matrix={"os": "a", "n": 1}']), ("", []), ("mine", ["--matrix=mine"]),
    ({"os": "a"}, ['--matrix={"os": "a"}']), ([1], ["--matrix=[1]"]),
])  # fmt: skip
def test_the_whole_matrix_is_the_identity(identity, wanted):
    given = identity if isinstance(identity, str) else json.dumps(identity)
    assert action_entry.leg_words({"CGPF_IDENTITY": given}) == wanted


@pytest.mark.parametrize(("given", "wanted"), [
    ('{\n  "leg": {\n    "result": "failure"\n  }\n}\n', ['--expect={\n  "leg": {\n    "result": "failure"\n  }\n}']),
    (" one \n\ntwo", ["--expect=one", "--expect=two"]), ("", []),
])  # fmt: skip
def test_expected_jobs_are_options(given, wanted):
    words = action_entry.publish_words({"CGPF_REPORT": "r", "CGPF_EXPECT": given}, "")
    assert [word for word in words if word.startswith("--expect")] == wanted


def test_only_the_step_that_publishes_has_the_token():
    holders = [step["name"] for step in ACTION["runs"]["steps"] if "inputs.token" in str(step.get("env"))]
    assert holders == ["Publish"]


def test_every_word_of_the_entry_is_an_option():
    options = _options(publish.arguments())
    environ = dict.fromkeys((f"CGPF_{name.upper().replace('-', '_')}" for name in ACTION["inputs"]), "x")
    words = action_entry.publish_words(environ | {"CGPF_REPORT": "r", "CGPF_RECEIPT": "d", "CGPF_TARGET": "run"}, "sub")
    assert {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"} <= set(options)
    assert words[-2:] == ["--", "r"]
    in_shell = set(re.findall(r" (--[a-z-]+)", JOBS.split("set -- --provider")[1].split("artifacts:")[0]))
    assert in_shell - {"--"} <= set(options)


def test_the_component_is_the_template():
    assert (ROOT / "templates" / "cgroup-preflight.yml").read_text("utf-8") == TEMPLATE


def test_docs_name_every_input_and_output():
    github, gitlab = ((ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("github", "gitlab"))
    assert [name for name in (*ACTION["inputs"], *ACTION["outputs"]) if f"| `{name}` |" not in github] == []
    assert [name for name in INPUTS if f"| `{name}` |" not in gitlab] == []
    assert set(re.findall(r"^\| `([a-z-]+)` \|", github, re.MULTILINE)) == {*ACTION["inputs"], *ACTION["outputs"]}
    assert set(re.findall(r"^\| `([a-z-]+)` \|", gitlab, re.MULTILINE)) == set(INPUTS)


def test_docs_name_only_real_options():
    options = {*_options(publish.arguments()), "--format", "--output"}
    text = (ROOT / "docs" / "publishing.md").read_text("utf-8")
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= options
    assert [name for name in options if name.startswith("--") and f"`{name}" not in text and name != "--help"] == []


def test_the_lock_has_every_dependency():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    names = {re.match(r"[A-Za-z0-9._-]+", item)[0].lower().replace(".", "-") for item in wanted} - set(lock.LEFT_OUT)
    locked = (ROOT / "ci" / "action-requirements.txt").read_text("utf-8")
    assert [name for name in sorted(names) if f"\n{name}==" not in locked] == []
    assert "http" not in locked


def test_linters_of_the_action():
    check(tool("zizmor"), "--offline", "--no-progress", "action.yml")
    check(tool("check-jsonschema"), "--builtin-schema", "vendor.github-actions", "action.yml")
    check(tool("shellcheck"), *(str(path) for path in (ROOT / "ci").glob("*.sh")))


#: What the scanner takes for a secret and is none: a variable of the shell, a checksum, a name.
NO_SECRETS = {
    (".gitlab-ci-template.yml", "Secret Keyword"), ("templates/cgroup-preflight.yml", "Secret Keyword"),
    ("src/cgroup_preflight/cli/publish.py", "Secret Keyword"), ("ci/bench_guest.py", "Base64 High Entropy String"), ("examples/shop/auth-service/issuer.go", "Secret Keyword"),
}  # fmt: skip


def test_nothing_that_ships_has_a_secret(tmp_path):
    shipped = ["action.yml", ".gitlab-ci-template.yml", "templates", "ci", "src", "docs", "examples/shop", "README.md"]
    listed = subprocess.run(["git", "ls-files", *shipped], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.splitlines() if not name.endswith((".svg", ".png"))]
    (tmp_path / "leak.py").write_text('key = "AKIA' + "Q3EGRLIKUDW4XOPM" + '"\n')
    scan = [tool("detect-secrets"), "scan"]
    found = json.loads(run([*scan, *names], ROOT, dict(os.environ)).stdout)["results"]
    # The other way: the scanner does find one.
    assert json.loads(run([*scan, "--all-files", "leak.py"], tmp_path, dict(os.environ)).stdout)["results"]
    assert {(name, item["type"]) for name, items in found.items() for item in items} <= NO_SECRETS


EXAMPLES = ROOT / "examples" / "rollout"


def test_the_docs_show_the_examples_as_they_are():
    text = (ROOT / "docs" / "rollout.md").read_text("utf-8")
    shown = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert shown == [
        (EXAMPLES / f"{name}.yml").read_text("utf-8") for name in ("github-plan", "github-deploy", "gitlab-ci")
    ]
    assert all(f"(../examples/rollout/{path.name})" in text for path in EXAMPLES.iterdir())


def test_applying_has_a_gate_and_a_plan_none():
    plan, deploy, gitlab = (
        yaml.safe_load((EXAMPLES / f"{name}.yml").read_text("utf-8"))
        for name in ("github-plan", "github-deploy", "gitlab-ci")
    )
    assert "environment" not in plan["jobs"]["plan"]
    assert deploy["jobs"]["rollout"]["environment"] == "production"
    assert deploy["concurrency"]["cancel-in-progress"] is False
    assert "pull_request" not in deploy[True]  # YAML 1.1 reads the key `on` so
    job = gitlab["rollout"]
    assert (job["environment"]["name"], job["rules"][0]["when"], job["rules"][0]["allow_failure"]) == (
        "production",
        "manual",
        False,
    )
    assert all(rule["if"] == "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH" for rule in job["rules"])
    (included,) = gitlab["include"]
    assert set(included["inputs"]) <= set(INPUTS)
    assert included["inputs"]["target"] == "rollout-plan"


def test_linters_of_the_pipeline_of_gitlab(tmp_path):
    schema = ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")
    check(tool("check-jsonschema"), *schema, str(EXAMPLES / "gitlab-ci.yml"))
    # The other way: the schema does see a wrong word.
    (tmp_path / "wrong.yml").write_text(
        (EXAMPLES / "gitlab-ci.yml").read_text().replace("when: manual", "when: sometimes")
    )
    assert run([tool("check-jsonschema"), *schema, "wrong.yml"], tmp_path, dict(os.environ)).returncode


def test_the_role_knows_its_variables():
    folder = ROOT / "ci" / "ansible" / "roles" / "rollout"
    defaults = yaml.safe_load((folder / "defaults" / "main.yml").read_text("utf-8"))
    specified = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text("utf-8"))["argument_specs"]["main"][
        "options"
    ]
    assert set(defaults) == set(specified)
    used = set(
        re.findall(r"\brollout_[a-z_]+", "".join(path.read_text("utf-8") for path in (folder / "tasks").iterdir()))
    )
    assert set(defaults) <= used


def _workflows():
    for path in EXAMPLES.glob("github-*.yml"):
        yield path.stem, path.read_text("utf-8")
    for page in ("github", "workflow-run"):
        text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)):
            if block.startswith("name:"):
                yield f"{page}-{number}", block


@pytest.mark.parametrize(("name", "text"), list(_workflows()), ids=lambda value: value if len(value) < 40 else "")
def test_workflows_in_the_docs(tmp_path, name, text):
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    file = folder / f"{name}.yml"
    file.write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    check(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(file))
    check(tool("actionlint"), "-shellcheck", tool("shellcheck"), str(file), folder=tmp_path)
    # The docs tell people to pin this action by hash; which hash that is, only they know.
    file.write_text(text.replace("org/cgroup-preflight@v1", f"org/cgroup-preflight@{'0' * 40}"))
    check(tool("zizmor"), "--offline", "--no-progress", "--min-severity=medium", str(tmp_path))
    given = [
        step["with"]
        for job in yaml.safe_load(text)["jobs"].values()
        for step in job["steps"]
        if step.get("uses", "").startswith("org/cgroup-preflight@") and "with" in step
    ]
    assert all(set(item) <= set(ACTION["inputs"]) for item in given)


def test_linters_of_the_template(tmp_path):
    (tmp_path / "head.yml").write_text(HEAD)
    (tmp_path / "jobs.yml").write_text(JOBS.replace("$[[ inputs.allow-failure ]]", "false"))
    for half in ("head.yml", "jobs.yml"):
        check(
            tool("check-jsonschema"),
            "--builtin-schema",
            "vendor.gitlab-ci",
            "--data-transform",
            "gitlab-ci",
            str(tmp_path / half),
        )
    for name, job in yaml.safe_load(JOBS.replace("$[[ inputs.allow-failure ]]", "false")).items():
        for number, script in enumerate(job.get("script", ())):
            path = tmp_path / f"{number}-{name.strip('.$[]').replace(' ', '')[:20]}.sh"
            path.write_text(f"#!/bin/sh\n{script}")
            check(tool("shellcheck"), "--exclude", "SC2153,SC2154", str(path))


def test_the_template_is_a_job_template():
    jobs = yaml.safe_load(JOBS.replace("$[[ inputs.allow-failure ]]", "false"))
    assert not {"default", "stages", "variables", "workflow", "image", "cache"} & set(jobs)
    assert all("cgroup" in name or "job-prefix" in name for name in jobs)
    assert all(value.get("description") and "default" in value for value in INPUTS.values())


def test_the_playbook_judges_hosts_without_the_tool_over_ssh(tmp_path):
    """Two hosts, both of which are this machine, by what the inventory says; one that is not reached; and an old recording."""
    command, log = tmp_path / "tool.sh", tmp_path / "ssh.log"
    # This ssh has no connections that are shared.
    code = "import sys; from cgroup_preflight.cli import hosts, main; hosts.control_folder = str; sys.exit(main(sys.argv[1:]))"
    command.write_text(f'#!/bin/sh\nexec env PYTHONPATH="{ROOT}/src" "{sys.executable}" -c "{code}" "$@"\n')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(SSH.format(log=log, server=SFTP_SERVER))
    for path in (command, tmp_path / "bin/ssh"):
        path.chmod(0o755)
    (tmp_path / "inventory").write_text(
        "one ansible_host=192.0.2.7 ansible_user=me ansible_port=2222 ansible_ssh_private_key_file=/keys/one\n"
        "two ansible_python_interpreter=/absent/python\ndead\n[all:vars]\npreflight_command='[\"/absent/tool\"]'\n"
    )
    (tmp_path / "all/dead").mkdir(parents=True)
    environment = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    run([str(command), "snapshot", "-o", "all/dead/host.json"], tmp_path, environment)
    given = json.dumps(
        {"preflight_local_command": [str(command)], "preflight_folder": f"{tmp_path}/all", "preflight_over_ssh": True}
    )
    done = run([tool("ansible-playbook"), "-i", "inventory", "-e", given, str(ROOT / "ci/ansible/preflight.yml")],
               tmp_path, environment)  # fmt: skip
    text = done.stdout + done.stderr
    assert done.returncode != 0, text
    reports = {
        name: json.loads((tmp_path / "all" / name / "report.json").read_text()) for name in ("one", "two", "dead")
    }
    here = json.loads(run([str(command), "check", "--format", "json"], tmp_path, environment).stdout)
    for name in ("one", "two"):
        assert [(item["code"], item["subject"], item["status"]) for item in reports[name]["findings"]] == [
            (item["code"], item["subject"], item["status"]) for item in here["findings"]
        ], text
    assert [item["code"] for item in reports["dead"]["findings"]] == ["CGP608"]
    assert "**3 runners:**" in (tmp_path / "all.md").read_text()
    assert {line.partition(" -- ")[2] for line in log.read_text().splitlines()} >= {"one sh", "two sh", "dead sh"}
    assert (tmp_path / "all/one/ssh_config").read_text() == (
        'Host one\n  HostName 192.0.2.7\n  User "me"\n  Port "2222"\n  IdentityFile "/keys/one"\nHost *\n  Include ~/.ssh/config\n'
    )
    assert (
        tmp_path / "all/two/ssh_config"
    ).read_text() == "Host two\n  HostName two\nHost *\n  Include ~/.ssh/config\n"


@pytest.mark.parametrize(("limit", "runners"), [("all", 4), ("three", 1), ("one,two", 2)])
def test_the_playbook_merges_hosts_and_forgets_none(tmp_path, limit, runners):
    """This machine, twice; a host without the tool, and one that prints something else; and an old report around."""
    command = tmp_path / "tool.sh"
    command.write_text(f'#!/bin/sh\nexec env PYTHONPATH="{ROOT}/src" "{sys.executable}" -m cgroup_preflight "$@"\n')
    command.chmod(0o755)
    (tmp_path / "inventory").write_text(
        f"""three preflight_command='["{tmp_path}/absent"]'\nfour preflight_command='["/bin/echo", "no report"]'\n"""
        f"""one preflight_command='["{command}"]'\ntwo preflight_command='["{command}"]'\n"""
        f"[all:vars]\nansible_connection=local\nansible_python_interpreter={sys.executable}\n"
    )
    write_report(tmp_path / "all" / "gone-last-week" / "report.json")
    given = json.dumps({"preflight_local_command": [str(command)], "preflight_folder": f"{tmp_path}/all"})
    argv = [tool("ansible-playbook"), "-i", "inventory", "--limit", limit, "-e", given]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    done = run([*argv, str(ROOT / "ci/ansible/preflight.yml")], tmp_path, environment)
    text = (tmp_path / "all.md").read_text("utf-8")
    verdict = json.loads((tmp_path / "all.json").read_text("utf-8"))["verdict"]
    assert (done.returncode == 0) == (verdict == "pass")
    assert runners == 1 or f"**{runners} runners:**" in text
    assert "gone-last-week" not in text
    if limit != "one,two":
        assert done.returncode != 0
        assert "CGP608" in text
