"""The sample of mutants: which ones, how they are counted. cosmic-ray itself runs in `nox -s mutants` only."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from ci import mutants

DIFF = """--- mutation diff ---
--- a/src/x.py
+++ b/src/x.py
@@ -10,7 +10,7 @@

 def f(a: int) -> bool:
     \"\"\"Whether it is small.\"\"\"
-    return a < 3
+    return a <= 3

 def g() -> None:
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The fields of cosmic-ray's MutationSpec that a sample looks at; cosmic-ray is not installed here."""

    module_path: Path
    start_pos: tuple[int, int]
    operator_name: str = "core/AddNot"


SPECS = [
    Spec(module_path=Path("a.py"), start_pos=(line, 0), operator_name=name) for line in range(40) for name in "xyz"
]


def test_a_sample_is_the_same_for_the_same_seed_and_has_one_mutant_at_a_place() -> None:
    first = mutants.sample(SPECS, 15, "1 core")
    assert first == mutants.sample(list(reversed(SPECS)), 15, "1 core")
    assert first != mutants.sample(SPECS, 15, "2 core")
    assert len({item.start_pos for item in first}) == 15


def test_a_sample_of_few_mutants_is_all_of_them() -> None:
    assert len(mutants.sample(SPECS[:6], 15, "1 core")) == 2


def test_a_change_is_read_from_the_diff() -> None:
    change = mutants.change_of(DIFF, "x.py")
    assert change == mutants.Change(module="x.py", line=13, before="return a < 3", after="return a <= 3")


@pytest.mark.parametrize(
    ("source", "has_effect"),
    [
        ("def f(a: int | None) -> None: ...", False),
        ("def f() -> int | None: ...", False),
        ("x: int | None", False),
        ("if TYPE_CHECKING:\n    import a | b".replace("import ", ""), False),
        ("@dataclass(frozen=a | b)\nclass A: ...", False),
        ("x: int = 1 | 2", True),
        ("def f(a: int = 1 | 2) -> None: ...", True),
        ("def f() -> None:\n    return 1 | 2", True),
    ],
)
def test_annotations_and_options_of_dataclasses_are_left_out(source: str, has_effect: bool) -> None:
    line = source[: source.index("|")].count("\n") + 1
    column = source.splitlines()[line - 1].index("|")
    assert ((line, column) not in mutants.left_out(source)) is has_effect


def test_the_list_of_equivalent_mutants_can_be_read_and_its_lines_exist() -> None:
    listed = mutants.known_equivalents((mutants.TOP / mutants.EQUIVALENT).read_text())
    for module, before, after in listed:
        lines = [line.strip() for line in (mutants.TOP / mutants.PACKAGE / module).read_text().splitlines()]
        assert before in lines, f"{module}: {before}"
        assert before != after


def test_figures_count_time_outs_as_noticed_and_leave_equivalent_ones_out() -> None:
    text = mutants.figures(
        {"core": Counter(killed=6, timeout=1, survived=3, equivalent=5), "plan": Counter(equivalent=2)}
    )
    core, plan, total = (line.split() for line in text.splitlines()[1:])
    assert core == ["core", "6", "3", "1", "5", "70%"]
    assert plan == ["plan", "0", "0", "0", "2", "-"]
    assert total == ["all", "6", "3", "1", "7", "70%"]


def test_a_room_without_tests_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        mutants.main(["nowhere"])
    assert raised.value.code == 2
    assert "no room with fast tests: nowhere" in capsys.readouterr().err


def test_rooms_are_those_with_tests() -> None:
    assert {"core", "smoke", "checks"} <= set(mutants.rooms())
