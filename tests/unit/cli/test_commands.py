"""The commands themselves: help, options, formats, where output goes, and each way out."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cgroup_preflight.cli import COMMANDS, main
from cgroup_preflight.cli.options import Rendering, outputs
from cgroup_preflight.core.errors import UsageError
from tests.unit.cli.calling import FILE, call, check_harmless, environment

GOOD = """\
[project]
name = "shop"
[slices.api]
MemoryMax = "512M"
[services.a]
binary = "nothing"
slice = "api"
CPUQuota = "50%"
"""
needs_processes = pytest.mark.starts_processes


@needs_processes
def test_version(tmp_path):
    from cgroup_preflight import __version__

    assert call(tmp_path, "--version").out == f"cgroup-preflight {__version__}\n"


@pytest.fixture
def in_process(tmp_path, monkeypatch, capfd):
    """Calls `main` here, for what ends before anything of the host is read; signal handlers stay as they were."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*words):
        (tmp_path / FILE).write_text(GOOD)
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            try:
                status = main(list(words))
            except SystemExit as end:
                status = end.code
        out, err = capfd.readouterr()
        return status, out, err

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help(in_process, words):
    status, out, err = in_process(*words)
    assert (status, err) == (0, "")
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert [line for line in out.splitlines() if len(line) > 80] == []
    for meaning in ("0 pass", "1 fail", "2 wrong", "3 unverified", "4 a defect"):
        assert meaning in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(in_process, command):
    status, out, err = in_process(command, "--help")
    assert (status, err) == (0, "")
    assert f"cgroup-preflight {command}" in out


_CALLS = [
    *([name] for name in COMMANDS),
    *(["guest", name] for name in ("build", "import", "list", "remove", "shell", "run")),
    *(["rollout", name] for name in ("plan", "apply", "status", "abort", "resume")),
    ["plan", "shares"],
]


@pytest.mark.parametrize("words", _CALLS, ids=" ".join)
def test_help_of_each_command_teaches_its_use_in_80_columns(in_process, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = in_process(*words, "--help")
    about = out.partition("\n\n")[2].partition("\noptions:")[0]
    assert f"\n    cgroup-preflight {' '.join(words)}" in about, "an example"
    assert "Use" in about, "when to use it"
    assert [line for line in out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "--help"),
        (["chekc"], "did you mean check?"),
        (["xyzzy"], "one of: "),
        (["--frobnicate"], "not a command"),
        (["\x1b[31m"], "not a command"),
        (["x" * 5000], "not a command"),
        (["check", "--frobnicate"], "--frobnicate"),
        (["check", "--format", "pdf"], "'pdf'"),
        (["check", "--format", "json="], "'json='"),
        (["check", "--format", "json", "--format", "text"], "stdout"),
        (["check", "--require", "gpu"], "'gpu'"),
        (["check", "--require", "cpu\x1b[31m"], "controller"),
        (["run", "--engine", "docker"], "docker"),
        (["smoke", "nosuch"], "nosuch"),
        (["smoke", "\x1b[31m"], "no service"),
        (["slices", "--out", "/dev/null/x"], "/dev/null"),
        (["check", "--output", "x", "--format", "json=y"], "--output"),
        (["slices", "--conf", FILE], "--conf"),
    ],
    ids=str,
)
def test_wrong_calls(in_process, words, says):
    status, out, err = in_process(*words)
    assert status == 2
    assert out == ""
    assert says in err
    assert "Traceback" not in err
    check_harmless(err)


@needs_processes
@pytest.mark.parametrize("words", [["--output", "/nowhere/x"], ["--format", "json=/dev/null/y"]])
def test_a_report_that_cannot_be_written(tmp_path, words):
    called = call(tmp_path, "check", *words)
    assert called.status == 2
    assert words[-1].removeprefix("json=") in called.err


@needs_processes
def test_check_works_without_a_config_and_says_what_was_seen(tmp_path):
    called = call(tmp_path, "check")
    assert called.err == ""
    first = called.out.split("\n", 1)[0]
    assert {0: "PASS", 1: "FAIL", 3: "UNVERIFIED"}[called.status] in first


@needs_processes
def test_json_alone_on_stdout(tmp_path):
    called = call(tmp_path, "check", "--format", "json", config=GOOD)
    report = json.loads(called.out)
    assert called.err == ""
    assert report["schema_version"] == 1
    assert report["tool"]["name"] == "cgroup-preflight"
    assert report["verdict"] == {0: "pass", 1: "fail", 3: "unverified"}[called.status]
    assert set(report) >= {
        "schema_version",
        "tool",
        "verdict",
        "host",
        "findings",
        "services",
        "started_at",
        "duration_seconds",
    }
    for item in report["findings"]:
        assert set(item) >= {"code", "name", "status", "subject", "message", "evidence", "remedies", "location"}
        assert item["status"] in ("pass", "fail", "warn", "skip", "unverified")
        for remedy in item["remedies"]:
            assert set(remedy) >= {"title", "why", "commands", "files", "needs_root", "persistent", "docs"}


@needs_processes
def test_several_formats_at_once(tmp_path):
    plain = call(tmp_path, "check")
    called = call(tmp_path, "check", "--format", "json=a.json", "--format", "text=b.txt")
    assert called.status == plain.status
    assert called.out.split("\n", 1)[0].split(":")[0] == plain.out.split("\n", 1)[0].split(":")[0]
    assert json.loads((tmp_path / "a.json").read_text())["schema_version"] == 1
    assert "\x1b" not in (tmp_path / "b.txt").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.txt", "tmp"}, "no temporary file stays"


@needs_processes
def test_exit_zero_and_unverified(tmp_path):
    assert call(tmp_path, "check", "--exit-zero").status == 0
    plain = call(tmp_path, "check").status
    assert call(tmp_path, "check", "--allow-unverified").status == (0 if plain == 3 else plain)


@needs_processes
def test_requirements_of_the_config_are_judged(tmp_path):
    called = call(tmp_path, "check", "--format", "json", config="[project]\nname='x'\n[require]\nkernel = '<2'\n")
    assert called.status == 1
    (found,) = [item for item in json.loads(called.out)["findings"] if item["code"] == "CGP106"]
    assert (found["status"], found["location"]) == ("fail", {"file": FILE, "line": 3})


@needs_processes
def test_slices_are_shown_or_written_the_same_bytes(tmp_path):
    shown = call(tmp_path, "slices", config=GOOD)
    assert shown.status == 0
    assert "[Slice]\nMemoryMax=512M\n" in shown.out
    assert call(tmp_path, "slices", "--out", "units/deep").status == 0
    first = {
        path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / "units").rglob("*") if path.is_file()
    }
    assert {str(path) for path in first} == {"units/deep/api.slice", "units/deep/a.service.d/10-cgroup-preflight.conf"}
    assert call(tmp_path, "slices", "--out", "units/deep").status == 0
    assert first == {
        path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / "units").rglob("*") if path.is_file()
    }
    assert all(content.decode() in shown.out for content in first.values())


@needs_processes
def test_a_config_in_a_folder_above(tmp_path):
    call(tmp_path, "slices", config=GOOD)
    called = call(tmp_path / "below", "slices")
    assert called.status == 0
    (tmp_path / FILE).write_text("[slices.a]\nMemoryMax = '5MB'\n")
    assert f"../{FILE}:2" in call(tmp_path / "below", "slices").err


@needs_processes
def test_a_reader_that_goes_away_changes_no_verdict(tmp_path):
    """`cgroup-preflight check | head -1` with pipefail."""
    expected = call(tmp_path, "check").status
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "cgroup_preflight", "check"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr
    assert done.returncode == expected


@needs_processes
@pytest.mark.parametrize("words", [["check"], ["check", "--help"], ["--version"], ["explain", "CGP101"], ["schema"]])
@pytest.mark.parametrize(
    ("redirect", "reason"), [(">/dev/full", "No space left"), (">&-", "it is closed"), (">/dev/full 2>&1", "")]
)
def test_a_stdout_that_cannot_be_written_is_an_error_of_the_call(tmp_path, words, redirect, reason):
    """Neither a pass, nor a fail, nor a defect of this tool: the call sent the output to where it cannot go."""
    command = f'exec "$0" -m cgroup_preflight {" ".join(words)} {redirect}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable], cwd=tmp_path, env=environment(tmp_path), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert (reason in done.stderr, "Traceback" in done.stderr, "defect" in done.stderr) == (True, False, False), done


@needs_processes
@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-"])
def test_a_stderr_that_cannot_be_written_leaves_the_exit_status(tmp_path, redirect):
    for words, status in (("explain CGP101", 0), ("explain CGP999", 2), ("nonsense", 2)):
        command = f'exec "$0" -m cgroup_preflight {words} {redirect}'
        done = subprocess.run(
            ["/bin/sh", "-c", command, sys.executable], cwd=tmp_path, env=environment(tmp_path), capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == status, (words, done)


@needs_processes
def test_a_report_to_dev_stdout_goes_where_stdout_goes(tmp_path):
    """As root, /dev/stdout is a link that could be replaced by a file; and `>>` is not to be truncated."""
    (tmp_path / "log").write_text("before\n")
    with open(tmp_path / "log", "a") as log:
        subprocess.run(
            [sys.executable, "-m", "cgroup_preflight", "schema", "--output", "/dev/stdout"],
            cwd=tmp_path, env=environment(tmp_path), stdout=log, timeout=60, check=True,
        )  # fmt: skip
    text = (tmp_path / "log").read_text()
    assert text.startswith("before\n{")
    assert text.endswith("}\n")
    assert os.path.islink("/dev/stdout")


_SLOW = """\
import sys, time, types
module = types.ModuleType("cgroup_preflight.cli.check")
def main(words):
    try:
        print("started", flush=True)
        time.sleep(30)
    finally:
        print("cleaned", flush=True)
module.main = main
sys.modules["cgroup_preflight.cli.check"] = module
from cgroup_preflight.cli import main
sys.exit(main(["check"]))
"""


@needs_processes
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_clean_up_and_have_their_own_status(tmp_path, number, status):
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status
    assert out == "cleaned\n"
    assert "Traceback" not in err


_BROKEN = """\
import sys, types
module = types.ModuleType("cgroup_preflight.cli.check")
def main(words):
    raise {error}
module.main = main
sys.modules["cgroup_preflight.cli.check"] = module
from cgroup_preflight.cli import main
sys.exit(main(["check"]))
"""


@needs_processes
@pytest.mark.parametrize(
    "error",
    [
        "KeyError('x' * 100000)",
        "RuntimeError('\\x1b[31m')",
        "RecursionError()",
        "MemoryError()",
        "UnicodeEncodeError('a', '\\udcff', 0, 1, 'b')",
    ],
)
def test_a_defect_of_the_tool_is_never_a_verdict(tmp_path, error):
    done = subprocess.run(
        [sys.executable, "-c", _BROKEN.format(error=error)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 400
    assert done.stderr.rstrip("\n").isprintable()
    (file,) = (tmp_path / "tmp").iterdir()
    assert str(file) in done.stderr
    assert "Traceback" in file.read_text(errors="replace")


@pytest.mark.parametrize(
    ("words", "output", "expected"),
    [
        ([], "", [("text", "")]),
        (["json"], "", [("json", "")]),
        (["json"], "f", [("json", "f")]),
        ([], "f", [("text", "f")]),
        (["json=f"], "", [("json", "f"), ("text", "")]),
        (["json=f", "text=g"], "", [("json", "f"), ("text", "g"), ("text", "")]),
        (["json=f", "text"], "", [("json", "f"), ("text", "")]),
        (["json=a=b"], "", [("json", "a=b"), ("text", "")]),
        (["json", "text=g"], "", [("json", ""), ("text", "g")]),
    ],
)
def test_where_output_goes(words, output, expected):
    assert outputs(words, output) == tuple(Rendering(format=name, file=file) for name, file in expected)


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["pdf"], ""),
        (["json="], ""),
        (["="], ""),
        ([""], ""),
        (["json", "text"], ""),
        (["json=f"], "g"),
        (["json", "text=f"], "g"),
    ],
)
def test_outputs_that_contradict_each_other(words, output):
    with pytest.raises(UsageError):
        outputs(words, output)


@needs_processes
def test_help_starts_quickly(tmp_path):
    """Text only: no command, no check and no client library is imported for it."""
    script = (
        "import sys; from cgroup_preflight.cli import main; main(['--help']); found = sys.modules\n"
        "print(sorted(name for name in found if 'cgroup_preflight' in name or name == 'requests'), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.strip() == "['cgroup_preflight', 'cgroup_preflight.cli']"
    began = time.monotonic()
    call(tmp_path, "--help")
    assert time.monotonic() - began < 10


@needs_processes
@pytest.mark.parametrize("command", ["init", "run", "slices"])
def test_a_folder_that_is_gone_is_no_defect(tmp_path, command):
    """As after a job's clean-up: the shell still stands in it."""
    folder = tmp_path / "gone"
    folder.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from cgroup_preflight.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, command], cwd=folder, env=environment(tmp_path), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert "current folder" in done.stderr
