"""Where the paths of a config may lead, by their text and by their links."""

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config import places
from cgroup_preflight.config.load import load, parse
from cgroup_preflight.core.errors import ConfigError
from tests.unit.core.making import config_of, mistakes_of

OUTSIDE = [
    "/tmp/a.tar",
    "../a.tar",
    "dist/../../a.tar",
    "*/../../a.tar",
    "**/../x",
    "dist/*/../a",
    "/**",
    "..",
    "../*/a",
]


@pytest.mark.parametrize("glob", OUTSIDE)
def test_a_glob_out_of_the_folder_is_a_mistake_with_its_line(glob):
    (found,) = mistakes_of(f"[artifacts]\nlayout = 'system'\ninject = ['dist/*.tar', '{glob}']\n")
    assert (found.location.line, found.code) == (3, "CGP204")
    assert repr(glob) in found.message
    assert "--allow-outside" in found.remedies[0].title


@pytest.mark.parametrize(
    "glob", ["dist/*.tar", "./dist/a", "dist/../a.tar", "**/*.deb", "a..b", "..a/*", "/src/dist/*"]
)
def test_a_glob_in_the_folder_is_none(glob):
    assert mistakes_of(f"[artifacts]\ninject = ['{glob}']\n") == ()


def test_a_folder_that_the_call_allows(tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "link").symlink_to("out")
    path = tmp_path / "project" / "c.toml"
    path.write_text("[project]\nname = 'x'\n[artifacts]\ninject = ['../out/*.tar']\n")
    with pytest.raises(ConfigError):
        load(path)
    with pytest.raises(ConfigError):
        load(path, [str(tmp_path / "ou")])
    for folder in ("out", "link", "."):
        assert load(path, [str(tmp_path / folder)]).outside == (os.path.realpath(tmp_path / folder),)


def test_the_file_itself_cannot_allow_anything():
    text = b"[project]\nname = 'x'\n[artifacts]\noutside = ['/']\nallow_outside = ['/']\n"
    with pytest.raises(ConfigError) as caught:
        parse(text, shown="c", folder="/src")
    assert [item.code for item in caught.value.findings] == ["CGP202", "CGP202"]


def _config(folder, *outside):
    return replace(config_of("", folder=str(folder)), outside=tuple(map(str, outside)))


def test_links_are_followed_before_it_is_decided(tmp_path):
    home = tmp_path / "home"
    (home / "dist").mkdir(parents=True)
    (tmp_path / "secret").write_text("")
    (home / "dist" / "here").symlink_to("../near")
    (home / "dist" / "there").symlink_to(tmp_path / "secret")
    (home / "up").symlink_to("..")
    config = _config(home)
    assert places.allows(config, "dist/here")
    assert places.allows(config, "dist/absent")
    for path in ("dist/there", "up/secret", "up", "../secret", str(tmp_path / "secret"), "up/home2/x"):
        assert not places.allows(config, path), path
        assert places.allows(_config(home, tmp_path), path)
    assert not places.allows(_config(home, home), f"{home}2/x")


def test_a_program_may_be_outside_where_the_config_says_so_but_not_by_a_link(tmp_path):
    home, other = tmp_path / "home", tmp_path / "usr"
    home.mkdir()
    other.mkdir()
    (other / "python3.11").write_text("")
    (other / "python3").symlink_to("python3.11")
    (other / "away").symlink_to("../secret")
    (home / "hidden").symlink_to(other / "python3")
    (home / "in").symlink_to("../usr")
    config = _config(home)
    for binary in (str(other / "python3"), "../usr/python3.11", "../usr/python3"):
        assert places.allows_program(config, binary), binary
    for binary in ("hidden", "in/python3", "../usr/away", str(other / "away"), str(home / "in/python3")):
        assert not places.allows_program(config, binary), binary
        assert places.allows_program(_config(home, tmp_path), binary)


@given(st.lists(st.sampled_from(["..", ".", "a", "*", "**", "b[c]"]), min_size=1, max_size=6), st.booleans())
def test_a_text_that_stays_inside_never_leaves_the_folder(parts, absolute):
    """Whatever folders the wildcards stand for, the path that such a glob matches is below the folder."""
    glob = ("/" if absolute else "") + "/".join(parts)
    if not places.spells_outside(_config("/src"), glob):
        for name in ("x", "deep"):
            path = glob.replace("**", name).replace("*", name)
            assert f"{os.path.normpath(os.path.join('/src', path))}/".startswith("/src/")
