"""Completion scripts in the real shells: what each proposes is what the help has."""

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import time

import pytest

from cgroup_preflight.cli import COMMANDS
from cgroup_preflight.cli.completion import SHELLS
from cgroup_preflight.cli.completion.describe import Kind, every_command
from tests.unit.cli.calling import FILE, call

pytestmark = pytest.mark.starts_processes
CONFIG = "[project]\nname = 'shop'\n[services.user-api]\nbinary = 'x'\n[services.worker]\nbinary = 'x'\n[services.'$(touch bad)']\n"
_TIMEOUT = 60
#: What stands before the cursor, what must be proposed, and what must not.
CASES = [
    ("", ["run", "check", "completion", "guest"], ["apply", "--config", "user-api"]),
    ("ch", ["check"], ["run"]),
    ("check --", ["--config", "--format", "--quiet"], ["--engine", "--inside", "check"]),
    ("run --engine ", ["auto", "cgroupfs", "guest"], ["--config", "run"]),
    ("run --format ", ["json", "sarif"], ["run"]),
    ("run --inside", [], ["--inside"]),
    ("run --ti", ["--timings"], ["--target"]),
    ("run ", ["user-api", "worker"], ["touch", "run"]),
    ("smoke w", ["worker"], ["user-api"]),
    ("guest ", ["build", "shell"], ["check", "apply"]),
    ("guest run --", ["--timeout", "--input"], ["--install", "--engine"]),
    ("rollout plan --", ["--snapshot"], ["--yes"]),
    ("plan ", ["shares"], ["apply"]),
    ("completion ", list(SHELLS), ["json"]),
    ("explain CGP50", ["CGP501", "CGP509"], ["CGP101"]),
]


def shell_or_skip(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("project")
    for shell in SHELLS:
        (made / shell).write_text(call(made, "completion", shell, config=CONFIG).out)
    (made / FILE).write_text(CONFIG)
    (made / "deploy").mkdir()
    (made / "a-file").write_text("")
    return made


def output_of(argv, folder):
    done = subprocess.run(
        argv, cwd=folder, env={"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb"}, capture_output=True, text=True,
        timeout=_TIMEOUT, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def in_bash(folder, lines):
    """bash splits at `=`, as readline does; `compopt` works only while readline completes."""
    script = ["compopt() { :; }; source ./bash"]
    for line in lines:
        words = ["cgroup-preflight", *(part for word in line.split(" ") for part in _at_equals(word))]
        script.append(
            f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; _cgroup_preflight"
        )
        script.append('echo "${COMPREPLY[@]}"')
    out = output_of([shell_or_skip("bash"), "--norc", "-c", "\n".join(script)], folder)
    return dict(zip(lines, map(str.split, out.splitlines()), strict=True))


def _at_equals(word):
    return [part for part in re.split("(=)", word) if part] or [""]


def in_fish(folder, lines):
    script = 'source ./fish; for line in $argv; echo "line $line"; complete -C "cgroup-preflight $line"; end'
    out = output_of([shell_or_skip("fish"), "--no-config", "-c", script, *lines], folder)
    parts = re.split(r"^line .*\n", out, flags=re.MULTILINE)[1:]
    found = ([item.partition("\t")[0] for item in part.splitlines()] for part in parts)
    return dict(zip(lines, found, strict=True))


def in_zsh(folder, lines):
    """A zsh on a pseudo terminal, which lists the choices (^D) and inserts the only one (Tab)."""
    zsh = shell_or_skip("zsh")
    begin = (
        "unset zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; source ./zsh; LISTMAX=9999; "
        "zstyle ':completion:*' list-prompt ''; bindkey '^D' list-choices; PS1='<next>'; print REA''DY\n"
    )
    here, there = pty.openpty()
    process = subprocess.Popen(
        [zsh, "-f", "-i"], cwd=folder, stdin=there, stdout=there, stderr=there, start_new_session=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "COLUMNS": "500", "LINES": "900"},
    )  # fmt: skip
    os.close(there)
    found = {}
    try:
        os.write(here, begin.encode())
        _read_until(here, "READY\r\n")
        for line in lines:
            # Only behind the prompt zsh reads keys, and not the terminal lines.
            _read_until(here, "<next>")
            os.write(here, f"cgroup-preflight {line}\x04\t\x15print DO''NE\n".encode())
            found[line] = _read_until(here, "DONE\r\n").split()
    finally:
        process.kill()
        process.wait()
        os.close(here)
    return found


def _read_until(descriptor, mark):
    text, until = "", time.monotonic() + _TIMEOUT
    while mark not in text:
        ready, _, _ = select.select([descriptor], [], [], max(until - time.monotonic(), 0))
        assert ready, text
        # Byte by byte: what follows the mark belongs to the next reader.
        text += os.read(descriptor, 1).decode("utf-8", "replace")
    return text.replace("\a", " ")


@pytest.fixture(scope="module", params=[in_bash, in_fish, in_zsh], ids=["bash", "fish", "zsh"])
def proposals(request, folder):
    """What one shell proposes, by what stands before the cursor."""
    return request.param(folder, [line for line, _, _ in CASES])


@pytest.mark.parametrize(("line", "proposed", "others"), CASES)
def test_what_a_shell_proposes(folder, proposals, line, proposed, others):
    found, typed = proposals[line], line.split()
    assert [word for word in proposed if word not in found] == []
    assert [word for word in others if word in found and word not in typed] == []
    assert not (folder / "bad").exists()


def test_bash_completes_behind_an_equals_sign(folder):
    lines = ["run --engine=c", "run --engine=cgroupf"]
    assert in_bash(folder, lines) == {line: ["cgroupfs"] for line in lines}


def test_bash_proposes_a_folder_of_strangers_as_it_is_called(folder):
    names = ["named oddly", "named*", "named-$(touch bad)"]
    for name in names:
        (folder / name).mkdir()
    line = "COMP_WORDS=(cgroup-preflight slices --out named); COMP_CWORD=3; _cgroup_preflight"
    script = f'compopt() {{ :; }}; source ./bash; {line}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    found = output_of([shell_or_skip("bash"), "--norc", "-c", script], folder).splitlines()
    for name in names:
        (folder / name).rmdir()
    assert sorted(found) == sorted(names)


def test_fish_proposes_files_and_folders_where_a_path_is_expected(folder):
    found = in_fish(folder, ["run --config ", "slices --out "])
    assert {"deploy/", "a-file"} <= set(found["run --config "])
    assert "deploy/" in found["slices --out "]
    assert "a-file" not in found["slices --out "]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_has_no_syntax_error(folder, shell):
    assert output_of([shell_or_skip(shell), "-n", shell], folder) == ""


def test_the_records_have_what_the_help_has():
    found = {item.name: item for item in every_command()}
    assert list(found) == list(COMMANDS)
    run = {name: item for item in found["run"].options for name in item.names}
    assert (run["--engine"].kind, run["--config"].kind, run["--allow-outside"].kind, run["--timings"].placeholder) == (
        Kind.WORDS, Kind.FILES, Kind.FOLDERS, "",
    )  # fmt: skip
    assert run["--target"].words == ("debian-12", "debian-13", "debian-14")
    assert "--inside" not in run
    assert [item.kind for item in found["run"].words] == [Kind.SERVICES]
    assert [item.name for item in found["guest"].actions] == ["build", "import", "list", "remove", "shell", "run"]
    assert found["guest"].actions[0].about == "build an image, unless it exists"


def test_a_shell_that_is_not_known(tmp_path):
    assert call(tmp_path, "completion", "tcsh").status == 2
