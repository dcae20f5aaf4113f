"""The command as users call it: arguments, output, exit status; and what `run` does with artifacts."""

import hashlib
import json
import shlex
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.artifacts.run import inject_after_run
from cgroup_preflight.cli import main
from cgroup_preflight.cli.common import plan_of
from cgroup_preflight.config.binaries import program_hashes
from cgroup_preflight.config.load import load
from cgroup_preflight.core.report import Finding, Report, Status, Verdict
from cgroup_preflight.report import codec, text
from cgroup_preflight.report import markdown as markdown_format
from tests.unit.artifacts import making
from tests.unit.artifacts.making import SLICE, entry, tar
from tests.unit.report.samples import GOOD, PROVED, finding, report

_PROGRAM = b"\x7fELF program"
_CONFIG = '[project]\nname = "shop"\n[artifacts]\ninject = ["out/*.tar"]\n' + making.ONE_SERVICE.replace(
    "{limit}", "192M"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    (tmp_path / "cgroup-preflight.toml").write_text(_CONFIG)
    for folder in ("dist", "out"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dist/user-api").write_bytes(_PROGRAM)
    (tmp_path / "out/a.tar").write_bytes(tar([entry("usr/", None), entry("usr/bin/user-api", _PROGRAM)]))
    return tmp_path


def _report(project: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    status = main(["inject", "--format", "json", *words])
    return status, json.loads(capsys.readouterr().out)


def test_report_gives_the_hash_before_and_after(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = project / "out/a.tar"
    before = hashlib.sha256(artifact.read_bytes()).hexdigest()
    status, report = _report(project, capsys, "out/a.tar")
    (item,) = [item for item in report["findings"] if item["code"] == "CGP301"]
    assert (status, report["verdict"], item["subject"]) == (0, "pass", "out/a.tar")
    assert item["evidence"]["sha256_before"] == before
    assert item["evidence"]["sha256_after"] == hashlib.sha256(artifact.read_bytes()).hexdigest()


def test_text_and_markdown_of_a_run_list_each_artifact_with_both_hashes(project: Path) -> None:
    before = hashlib.sha256((project / "out/a.tar").read_bytes()).hexdigest()
    findings = _run(project)
    after = hashlib.sha256((project / "out/a.tar").read_bytes()).hexdigest()
    report = Report(tool_version="1", verdict=Verdict.PASS, host=None, findings=findings, services=(),
                    started_at="2024-01-01T00:00:00Z", duration_seconds=1.0)  # fmt: skip
    for shown in (text.render(report), markdown_format.render(report)):
        assert all(word in shown for word in ("out/a.tar", before, after))


def test_config_names_artifacts_where_the_call_does_not(project: Path) -> None:
    assert main(["inject"]) == 0
    (project / "out/a.tar").unlink()
    assert main(["inject"]) == 2


def test_check_is_one_and_shows_a_diff_where_the_plan_is_not_in(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (project / "out/a.tar").read_bytes()
    assert main(["inject", "--check", "out/a.tar"]) == 1
    assert "+MemoryMax=192M" in capsys.readouterr().out
    assert (project / "out/a.tar").read_bytes() == data
    main(["inject", "out/a.tar"])
    (project / "cgroup-preflight.toml").write_text(_CONFIG.replace("192M", "256M"))
    capsys.readouterr()
    assert main(["inject", "--check", "out/a.tar"]) == 1
    out = capsys.readouterr().out
    assert "-MemoryMax=192M" in out
    assert "+MemoryMax=256M" in out


def test_what_the_config_ignores_is_shown_with_its_reason(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The gate before a deploy: an exception must not be silent in it."""
    ignore = '[[policy.ignore]]\ncode = "CGP301"\nreason = "packed by hand"\n'
    (project / "cgroup-preflight.toml").write_text(_CONFIG + ignore)
    (project / "out/b.tar").write_bytes((project / "out/a.tar").read_bytes())
    main(["inject", "out/b.tar"])
    for words in (("inject", "--check", "--allow-unverified"), ("inject", "--check", "--allow-unverified", "-v")):
        capsys.readouterr()
        assert main([*words, "out/a.tar", "out/b.tar"]) == 0
        out = capsys.readouterr().out
        assert "ignored    CGP301 out/a.tar" in out
        assert "(fail, ignored: packed by hand [" in out


def test_check_of_what_was_never_tested_is_unverified(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inject", "out/a.tar"])
    status, report = _report(project, capsys_after(capsys), "--check", "out/a.tar")
    assert (status, report["verdict"]) == (3, "unverified")
    assert main(["inject", "--check", "--allow-unverified", "out/a.tar"]) == 0


def capsys_after(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    capsys.readouterr()
    return capsys


def _run(project: Path, verdict: Verdict = Verdict.PASS, mode: str = "passed") -> tuple[Finding, ...]:
    config = load(project / "cgroup-preflight.toml")
    return inject_after_run(config, plan_of(config), program_hashes(config), verdict, mode, lambda _: None)


def test_after_a_run_that_passed_check_passes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = _run(project)
    assert {item.status for item in findings} <= {Status.PASS, Status.SKIP}
    assert main(["inject", "--check", "out/a.tar"]) == 0
    data = (project / "out/a.tar").read_bytes()
    assert main(["inject", "out/a.tar"]) == 0
    assert (project / "out/a.tar").read_bytes() == data, "a call without a proof does not take one away"


def test_check_finds_another_program_than_the_tested_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(project)
    artifact = project / "out/a.tar"
    artifact.write_bytes(artifact.read_bytes().replace(_PROGRAM, _PROGRAM[::-1]))
    status, report = _report(project, capsys_after(capsys), "--check", "out/a.tar")
    (wrong,) = [item for item in report["findings"] if item["code"] == "CGP302"]
    assert (status, wrong["status"]) == (1, "fail")
    assert hashlib.sha256(_PROGRAM).hexdigest() in wrong["message"]


def test_a_run_that_did_not_pass_touches_nothing(project: Path) -> None:
    data = (project / "out/a.tar").read_bytes()
    for verdict in (Verdict.FAIL, Verdict.UNVERIFIED):
        (item,) = _run(project, verdict)
        assert (item.code, item.status) == ("CGP309", Status.SKIP)
    assert (project / "out/a.tar").read_bytes() == data
    _run(project, mode="never")
    assert (project / "out/a.tar").read_bytes() == data
    _run(project, Verdict.FAIL, "always")
    assert making.manifest_in(_manifest(project)).verdict == "fail"
    assert main(["inject", "--check", "out/a.tar"]) == 1


def test_a_program_replaced_during_the_run_is_a_fail(project: Path) -> None:
    config = load(project / "cgroup-preflight.toml")
    before = program_hashes(config)
    (project / "dist/user-api").write_bytes(b"another")
    (item,) = inject_after_run(config, plan_of(config), before, Verdict.PASS, "passed", lambda _: None)
    assert (item.code, item.status) == ("CGP302", Status.FAIL)


def test_an_artifact_with_another_build_is_refused_after_the_run(project: Path) -> None:
    (project / "out/a.tar").write_bytes(tar([entry("user-api", b"stripped")]))
    wrong = [item for item in _run(project) if item.status is Status.FAIL]
    assert [item.code for item in wrong] == ["CGP302"]


def test_a_glob_without_artifacts_is_a_fail(project: Path) -> None:
    (project / "out/a.tar").unlink()
    assert [item.code for item in _run(project) if item.status is Status.FAIL] == ["CGP309"]


def test_report_of_a_run_is_a_proof(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = hashlib.sha256(_PROGRAM).hexdigest()
    config = hashlib.sha256((project / "cgroup-preflight.toml").read_bytes()).hexdigest()
    tested = finding(Status.PASS, code="CGP302", subject="user-api",
                     evidence={"sha256": digest, "config_sha256": config})  # fmt: skip
    proved = [replace(item, subject="user-api") for item in PROVED]

    def inject(*findings: Finding, check: bool = False) -> tuple[int, str]:
        made = report(*findings, services=(replace(GOOD, name="user-api"),))
        (project / "r.json").write_text(codec.render(made))
        capsys.readouterr()
        words = ["inject", *(["--check"] if check else []), "--report", "r.json", "out/a.tar"]
        return main(words), capsys.readouterr().err

    assert inject(*proved, tested)[0] == 0
    assert inject(*proved, tested, check=True)[0] == 0
    failed = finding(Status.FAIL, code="CGP511", name="bites")
    for findings, words in (((tested, failed), "ended with fail"), ((), "names no tested program")):
        status, said = inject(*proved, *findings)
        assert status == 2
        assert words in said
    other = replace(tested, evidence={"sha256": digest, "config_sha256": "0" * 64})
    assert inject(*proved, other)[0] == 2
    (project / "r.json").unlink()
    assert main(["inject", "--report", "r.json", "out/a.tar"]) == 2
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"\xed\xab\xee\xdb" + bytes(600), b"", b"7z\xbc\xaf\x27\x1c", b"what is this?"])
def test_what_cannot_be_written_is_two_and_others_have_their_turn(
    project: Path, data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "x").write_bytes(data)
    status, report = _report(project, capsys, "x", "out/a.tar", "missing")
    assert status == 2
    assert [item["status"] for item in report["findings"] if item["subject"] in ("x", "missing")] == ["fail", "fail"]
    assert making.check("out/a.tar").scan.found.keys() >= {SLICE}


def test_rpm_is_refused_with_the_snippets_to_use(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "x.rpm").write_bytes(b"\xed\xab\xee\xdb" + bytes(600))
    assert main(["inject", "x.rpm"]) == 2
    out = capsys.readouterr().out
    assert "    dst: /usr/lib/systemd/system/api.slice" in out
    assert "%{buildroot}%{_unitdir}/api.slice" in out


@pytest.mark.parametrize("kind", ["nfpm", "goreleaser", "debian", "spec"])
def test_snippets_name_every_file(project: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inject", "--emit", kind]) == 0
    shown = capsys.readouterr().out
    for path in (SLICE, making.DROP_IN, making.MANIFEST):
        assert f"build/cgroup-preflight/{path}" in shown


@pytest.mark.parametrize("words", [("--layout", "user"), ("--prefix", "opt/shop"), ("--service-units",)])
def test_the_commands_of_a_snippet_give_the_files_that_it_names(
    project: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inject", "--emit", "debian", *words]) == 0
    rules, _, install = capsys.readouterr().out.partition("# debian/install")
    for line in (line.strip() for line in rules.splitlines() if line.startswith("\t")):
        argv = shlex.split(line)
        if argv[0] == "cgroup-preflight":
            assert main(argv[1:]) == 0
        elif argv[0] == "mkdir":
            Path(argv[2]).mkdir(parents=True)
        else:
            Path(argv[3]).parent.mkdir(parents=True)
            Path(argv[3]).write_bytes(Path(argv[2]).read_bytes())
            Path(argv[3]).chmod(0o755)
    named = [line.partition("/ ")[0].rpartition(" ")[0] for line in install.splitlines()[1:]]
    made = {str(path) for path in Path("build").rglob("*") if path.is_file() and path.name != "user-api"}
    assert set(named) == made


def test_source_date_epoch_comes_from_the_environment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert main(["inject", "out/a.tar"]) == 0
    with tarfile.open("out/a.tar") as archive:
        assert archive.getmember(SLICE).mtime == 86400
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert main(["inject", "out/a.tar"]) == 2


@pytest.mark.parametrize("words", [("--prefix", "../x"), ("--services", "nobody"), ("--max-size", "many")])
def test_wrong_options_are_two(project: Path, words: tuple[str, str]) -> None:
    assert main(["inject", *words, "out/a.tar"]) == 2


def test_a_file_that_hides_ours_is_a_warning(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["etc/systemd/system/api.slice.d/90-more.conf", "lib/systemd/system/user-api.service.d/90-more.conf"]
    (project / "out/a.tar").write_bytes(
        tar([entry(name, b"[Service]\nCPUQuota=90%\n[Slice]\nMemoryMax=9G\n") for name in names])
    )
    status, report = _report(project, capsys, "--services", "all", "out/a.tar")
    warned = [item["message"] for item in report["findings"] if item["status"] == "warn"]
    assert status == 0
    assert all(any(name in message for message in warned) for name in names)


def _manifest(project: Path) -> bytes:
    return making.members((project / "out/a.tar").read_bytes())[making.MANIFEST]


@pytest.mark.starts_processes
def test_a_package_is_injected_without_what_starts_slowly(project: Path) -> None:
    """Each takes a part of the time that `dpkg-deb` takes for a small package."""
    making.write(project, "a.deb", making.deb("xz"))
    slow = {"dataclasses", "inspect", "tempfile", "ctypes", "difflib", "queue", "random", "subprocess"}
    slow |= {f"cgroup_preflight.{name}" for name in ("host.gather", "engines.choice", "report.read", "artifacts.zip")}
    script = (
        "import sys\nbefore = set(sys.modules)\nfrom cgroup_preflight.cli import main\n"
        "status = main(['inject', '--services', 'all', 'a.deb'])\n"
        f"print('slow:', sorted({slow!r} & (set(sys.modules) - before)), status)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "slow: [] 0", done
