"""The JSON Schema of the config against the loader: what loads is valid, and typical mistakes are not."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cgroup_preflight.cli import schema as command
from cgroup_preflight.config import load
from cgroup_preflight.config.keys import SECTIONS
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.config.schema import schema
from cgroup_preflight.core.errors import ConfigError

ROOT = Path(__file__).parents[3]
SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)
START = '[project]\nname = "shop"\n'


def loads(text: str) -> bool:
    try:
        load.parse(text.encode(), shown="x.toml", folder="/x")
    except ConfigError:
        return False
    return True


def is_valid(text: str) -> bool:
    valid: bool = VALIDATOR.is_valid(tomllib.loads(text))
    return valid


def tables(node: Any) -> list[dict[str, Any]]:
    below = [table for value in (node.values() if isinstance(node, dict) else []) for table in tables(value)]
    return [*([node] if isinstance(node, dict) and "properties" in node and "type" in node else []), *below]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_example_is_valid() -> None:
    VALIDATOR.validate(tomllib.loads((ROOT / "examples/shop/cgroup-preflight.toml").read_text("utf-8")))


def test_every_key_of_the_loader_is_described() -> None:
    found = tables(SCHEMA)
    names = {name for table in found for name in table["properties"]}
    assert names >= {key.name for section in SECTIONS.values() for key in section.keys}
    for table in found:
        assert table["additionalProperties"] is False
        assert table["description"]
    for section, part in ((SECTIONS["slices.*"], "slice"), (SECTIONS["services.*.smoke"], "service_smoke"),
                        (SECTIONS["services.*"], "service")):  # fmt: skip
        properties = SCHEMA["$defs"][part]["properties"]  # type: ignore[index]
        for key in section.keys:
            assert properties[key.name]["description"] == key.doc
            assert properties[key.name]["examples"] or "default" in properties[key.name]


def test_examples_and_defaults_are_valid() -> None:
    for table in tables(SCHEMA):
        for name, key in table["properties"].items():
            values = [*key.get("examples", []), *([key["default"]] if "default" in key else [])]
            assert all(VALIDATOR.evolve(schema=key).is_valid(value) for value in values), name


@pytest.mark.parametrize("text", [
    'MemoryMax = "512M"', "MemoryMax = 536870912", 'MemoryMax = "1G 512M"', 'MemoryMax = "1.5G"', 'MemoryMax = "50%"',
    'MemoryMax = "infinity"', 'MemoryMax = " 512M "', 'MemoryMax = "12.25%"', "MemoryMin = 0", "MemorySwapMax = 0",
    'MemoryZSwapMax = "64M"', "CPUWeight = 80", 'CPUWeight = "idle"', 'CPUWeight = "10000"', 'CPUQuota = "150%"',
    'CPUQuota = "12.5%"', 'CPUQuotaPeriodSec = "100ms"', "CPUQuotaPeriodSec = 1", 'AllowedCPUs = "0-3,5 7"',
    "AllowedCPUs = 0", "IOWeight = 60", "TasksMax = 64", 'TasksMax = "50%"', 'TasksMax = "infinity"',
    'ManagedOOMMemoryPressure = "kill"',
])  # fmt: skip
def test_values_that_load_are_valid(text: str) -> None:
    assert loads(f"{START}[slices.api]\n{text}\n")
    assert is_valid(f"{START}[slices.api]\n{text}\n")


@pytest.mark.parametrize("text", [
    'MemoryMax = "512MB"', 'MemoryMax = "512MiB"', 'MemoryMax = "512m"', 'MemoryMax = "max"', "MemoryMax = -1",
    'MemoryMax = "-1"', "MemoryMax = 1.5", "MemoryMax = true", "MemoryMax = 4095", 'MemoryMax = ""',
    'MemoryMax = "512M 1G 2"' + "\nCPUWeight = 0", 'CPUQuota = "50"', "CPUQuota = 50", 'CPUQuota = "infinity"',
    "CPUWeight = 0", "CPUWeight = 10001", 'CPUWeight = "10001"', 'IOWeight = "idle"', "TasksMax = 0",
    'TasksMax = "max"', 'CPUQuotaPeriodSec = "1 fortnight"', "CPUQuotaPeriodSec = 2", 'AllowedCPUs = "0-"',
    'ManagedOOMMemoryPressure = "maybe"', "memorymax = 1", 'binary = "x"', "MemoryMax = []",
])  # fmt: skip
def test_typical_mistakes_are_found(text: str) -> None:
    assert not loads(f"{START}[slices.api]\n{text}\n")
    assert not is_valid(f"{START}[slices.api]\n{text}\n")


@pytest.mark.parametrize("text", [
    "[service.x]", 'nane = "x"', "[slices]\napi = 1", "[services.x]", '[services."a b"]\nbinary = "x"',
    '[services."a..b"]\nbinary = "x"', '[services."a\\n"]\nbinary = "x"', f'[services.{"a" * 101}]\nbinary = "x"',
    "[slices.system]", "[slices.user-1000]", '[slices."api.slice"]', '[services.x]\nbinary = ""',
    '[services.x]\nbinary = "a\\nb"', '[services.x]\nbinary = "x"\n[services.x.smoke]\nready = "http://"',
    '[services.x]\nbinary = "x"\n[services.x.smoke]\nenv = {"1A" = "x"}', '[require]\ncontrollers = ["net"]',
    '[services.x]\nbinary = "x"\n[services.x.smoke]\nstart_timeout = 0', '[smoke]\nengine = "docker"',
    '[services.x]\nbinary = "x"\n[services.x.smoke]\nduration = 3601', "[smoke]\nallow_tiny_limits = 1",
])  # fmt: skip
def test_wrong_keys_and_names_are_found(text: str) -> None:
    assert not loads(f"{START}{text}\n")
    assert not is_valid(f"{START}{text}\n")


def test_a_config_without_a_project_is_found() -> None:
    assert not loads("[slices.api]\n")
    assert not is_valid("[slices.api]\n")


SERVICE = '[services.x]\nbinary = "x"'
_number = st.from_regex(r"[0-9]{1,6}(\.[0-9]{0,3})?", fullmatch=True)
_size = st.builds("{}{}{}".format, _number, st.sampled_from(["", " "]), st.sampled_from(["", *"EPTGMKB", "MB", "m"]))
_unit = st.sampled_from(["", "us", "µs", "ms", "s", "sec", "min", "h", "d", "x", "S"])
_span = st.builds("{}{}{}".format, _number, st.sampled_from(["", " "]), _unit)
_word = st.one_of(
    st.lists(_size, min_size=1, max_size=3).map(" ".join), st.lists(_span, min_size=1, max_size=3).map(" ".join),
    st.builds("{}%".format, _number), st.sampled_from(["infinity", "idle", "auto", "kill", "max", "0-3", "1,2 5-7"]),
    st.integers(-1, 20000).map(str), st.text("0123456789.,- %MGKidle", max_size=12),
)  # fmt: skip


@given(st.sampled_from(sorted(BY_NAME)), _word)
def test_whatever_loads_is_valid(name: str, word: str) -> None:
    is_slice = "Slice" in BY_NAME[name].sections
    texts = [f'{name} = "{word}"', f'{name} = ["{word}"]'] + (
        [f"{name} = {word}"] if word.isdigit() and word == str(int(word)) else []
    )
    for text in texts:
        config = f"{START}{'[slices.api]' if is_slice else SERVICE}\n{text}\n"
        assert is_valid(config) or not loads(config)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_the_example_of_each_property_loads_and_is_valid(name: str) -> None:
    item = BY_NAME[name]
    config = f"{START}{'[slices.api]' if 'Slice' in item.sections else SERVICE}\n{name} = {json.dumps(item.example)}\n"
    assert loads(config)
    assert is_valid(config)
    for text in ('""', "1.5", "[]", '["a\\nb"]', "{}", '"a\\nb"'):
        wrong = f"{config}{name}2 = 1\n".replace(
            f"{name} = {json.dumps(item.example)}\n{name}2 = 1", f"{name} = {text}"
        )
        assert not loads(wrong)
        assert not is_valid(wrong)


@pytest.mark.parametrize(
    ("name", "section"), [("User", "[slices.api]"), ("ConcurrencyHardMax", "[services.x]\nbinary = 'x'")]
)
def test_a_property_is_valid_only_where_systemd_has_it(name: str, section: str) -> None:
    config = f"{START}{section}\n{name} = 1\n"
    assert not loads(config)
    assert not is_valid(config)


@given(st.text(st.sampled_from("ab09_.-@ %\n/"), max_size=12) | st.sampled_from(["user", "user-1", "x.slice", "init"]))
def test_names_are_judged_alike(name: str) -> None:
    for text in ("[slices.{}]", '[services.{}]\nbinary = "x"'):
        config = START + text.format(json.dumps(name)) + "\n"
        assert loads(config) == is_valid(config)


@given(st.sampled_from(["http://127.0.0.1:80/x", "https://localhost", "tcp://[::1]:80", "grpc://localhost:1", "unix:/run/x", "unix:@x", "log:a.c", "exit"]),
       st.text(st.sampled_from("a1/:@?# %é"), max_size=4))  # fmt: skip
def test_readiness_that_loads_is_valid(start: str, more: str) -> None:
    config = f'{START}[services.x]\nbinary = "x"\n[services.x.smoke]\nready = {json.dumps(start + more)}\n'
    assert is_valid(config) or not loads(config)


@pytest.mark.parametrize("text", ["1" * 4000 + "x", " " * 4000 + "x", "1 " * 2000 + "x", "1M " * 1300 + "x"])
def test_no_text_makes_a_pattern_slow(text: str) -> None:
    for name in BY_NAME:
        assert not is_valid(f'{START}[slices.api]\n{name} = "{text}"\n')


@pytest.mark.parametrize(("words", "title"), [
    ([], "cgroup-preflight.toml"), (["config"], "cgroup-preflight.toml"), (["report"], "Report of cgroup-preflight"),
])  # fmt: skip
def test_the_command_prints_it(words: list[str], title: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(words) == 0
    assert json.loads(capsys.readouterr().out)["title"] == title


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--output", str(tmp_path / "schema.json")]) == 0
    assert json.loads((tmp_path / "schema.json").read_text("utf-8")) == SCHEMA
    assert capsys.readouterr().out == ""
