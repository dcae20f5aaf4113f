"""What goes into a guest, and what does not."""

import os
from dataclasses import replace

import pytest

from cgroup_preflight.config.load import load
from cgroup_preflight.config.model import Target
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.guest import project
from tests.unit.core.making import config_of


def config(folder, *binaries, files=()):
    text = "".join(f'[services.s{number}]\nbinary = "{path}"\n' for number, path in enumerate(binaries))
    (folder / "shop.toml").write_text(text)
    made = config_of(text)
    return replace(made, path="../x/shop.toml", folder=str(folder), target=Target(files=files))


def program(folder, name):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("program")
    return path


def test_config_and_binaries_and_nothing_else(tmp_path):
    program(tmp_path, "dist/web")
    program(tmp_path, ".env")
    found = project.project_of(config(tmp_path, "dist/web"))
    assert sorted(found.inputs) == ["project/dist/web", "project/shop.toml"]
    assert (found.folder, found.config_name) == ("/run/preflight/in/project", "shop.toml")
    assert found.size == len("program") + (tmp_path / "shop.toml").stat().st_size


def test_only_the_services_asked_for(tmp_path):
    for name in ("a", "b"):
        program(tmp_path, name)
    found = project.project_of(config(tmp_path, "a", "b"), ["s1"])
    assert "project/b" in found.inputs
    assert "project/a" not in found.inputs


def test_a_binary_beside_the_folder_stays_beside_it(tmp_path):
    home = tmp_path / "deploy"
    home.mkdir()
    program(tmp_path, "build/web")
    found = project.project_of(config(home, "../build/web"))
    assert sorted(found.inputs) == ["project/build/web", "project/deploy/shop.toml"]
    assert found.folder == "/run/preflight/in/project/deploy"


def test_unit_files_outside_of_the_folder_are_brought_with_their_drop_ins(tmp_path):
    unit = "[Service]\nExecStart=/usr/bin/web\n"
    for name in ("deploy/a.service", "deploy/a.service.d/10-x.conf", "etc/b.service", "home/web"):
        program(tmp_path, name).write_text(unit)
    text = f"""
        [project]
        name = "shop"
        [services.a]
        unit = "../deploy/a.service"
        binary = "web"
        [services.b]
        unit = "{tmp_path}/etc/b.service"
        binary = "web"
        """
    path = tmp_path / "home/cgroup-preflight.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [item.subject for item in caught.value.findings] == ["services.a.unit", "services.b.unit"]
    found = project.project_of(load(path, (str(tmp_path),)))
    assert found.folder == "/run/preflight/in/project/home"
    assert {"project/deploy/a.service", "project/deploy/a.service.d/10-x.conf"} <= found.inputs.keys()
    place = f"{tmp_path}/etc/b.service"
    assert (f"/run/preflight/in/absolute{place}", place) in found.outside


def test_an_absolute_binary_is_brought_to_its_place(tmp_path):
    path = program(tmp_path, "elsewhere/web")
    home = tmp_path / "home"
    home.mkdir()
    found = project.project_of(config(home, path))
    assert found.outside == ((f"/run/preflight/in/absolute{path}", str(path)),)
    assert found.inputs[f"absolute{path}"] == path


def test_a_link_goes_in_as_what_it_leads_to(tmp_path):
    program(tmp_path, "web-1.2")
    (tmp_path / "web").symlink_to("web-1.2")
    found = project.project_of(config(tmp_path, "web"))
    assert found.inputs["project/web"] == tmp_path / "web-1.2"


@pytest.mark.parametrize("link", ["bin/web", "web"])
def test_a_program_that_is_a_link_out_of_the_folder_is_refused_with_its_line(tmp_path, link):
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    program(home, "other")
    (home / link).symlink_to(program(tmp_path, "secret/key.sh"))
    made = config(home, "other", link)
    with pytest.raises(ConfigError) as caught:
        project.project_of(made)
    (finding,) = caught.value.findings
    assert (finding.code, finding.subject, finding.location.line) == ("CGP211", "s1", 3)
    assert "link out of the folder" in finding.message
    assert "--allow-outside" in finding.remedies[0].title
    project.project_of(made, ["s0"])
    allowed = project.project_of(replace(made, outside=(str(tmp_path / "secret"),)))
    assert allowed.programs[link] == tmp_path / "secret/key.sh"


def test_named_files_but_no_link_out_of_the_folder(tmp_path):
    home = tmp_path / "home"
    program(home, "web")
    program(home, "etc/a.yaml")
    program(home, "etc/b.txt")
    secret = program(tmp_path, "secret.yaml")
    (home / "etc" / "c.yaml").symlink_to(secret)
    (home / "etc" / "d.yaml").symlink_to("a.yaml")
    found = project.project_of(config(home, "web", files=("etc/*.yaml", "etc/*.yaml")))
    assert sorted(name for name in found.inputs if "etc" in name) == ["project/etc/a.yaml", "project/etc/d.yaml"]


def test_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(project, "_FILES_MAX", 3)
    for number in range(5):
        program(tmp_path, f"data/{number}")
    with pytest.raises(UsageError, match="more than 3 files"):
        project.project_of(config(tmp_path, "data/0", files=("data/*",)))


def test_a_file_that_is_gone_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        project.project_of(config(tmp_path, "gone"))
    assert os.listdir(tmp_path) == ["shop.toml"]


def test_two_stars_take_all_files_below_on_every_python(tmp_path):
    for name in ("web", "static/a.css", "static/deep/er/b.css", "static/.well-known/c"):
        program(tmp_path, name)
    found = project.project_of(config(tmp_path, "web", files=("static/**",)))
    assert sorted(name for name in found.inputs if "static" in name) == [
        "project/static/.well-known/c", "project/static/a.css", "project/static/deep/er/b.css",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("glob", "says", "do"),
    [
        ("nothing/**", "matches no file", "correct the glob"),
        ("static", "matches a folder", "static/**"),
        ("out.yaml", "outside of the folder", "copy"),
    ],
)
def test_a_glob_without_a_file_is_an_error_with_its_line(tmp_path, glob, says, do):
    home = tmp_path / "home"
    program(home, "web")
    program(home, "static/a.css")
    (home / "out.yaml").symlink_to(program(tmp_path, "secret.yaml"))
    with pytest.raises(ConfigError) as caught:
        project.project_of(config(home, "web", files=("static/**", glob)))
    assert caught.value.exit_status == 2
    (finding,) = caught.value.findings
    assert (finding.code, finding.subject) == ("CGP216", glob)
    assert says in finding.message
    assert do in finding.remedies[0].title


def with_certificates(folder, name):
    program(folder, "web")
    text = f'[services.s]\nbinary = "web"\nsmoke.ready = "https://127.0.0.1:1/"\nsmoke.ready_ca = "{name}"\n'
    (folder / "shop.toml").write_text(text)
    return replace(config_of(text), path="shop.toml", folder=str(folder))


def test_certificates_that_answers_are_checked_against_go_in(tmp_path):
    program(tmp_path, "certs/ca.pem")
    found = project.project_of(with_certificates(tmp_path, "certs/ca.pem"))
    assert found.inputs["project/certs/ca.pem"] == tmp_path / "certs/ca.pem"


def test_certificates_by_a_link_out_of_the_project_never_go_in(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "ca.pem").symlink_to(program(tmp_path, "secret"))
    assert sorted(project.project_of(with_certificates(home, "ca.pem")).inputs) == ["project/shop.toml", "project/web"]


def with_paths(folder, **paths):
    program(folder, "web")
    made = config(folder, "web")
    return replace(made, target=Target(paths=tuple((f"/{name}", value) for name, value in paths.items())))


def test_files_and_folders_that_have_an_absolute_path_in_the_guest(tmp_path):
    program(tmp_path, "deploy/etc/app.toml")
    library = program(tmp_path, "lib/libx.so.1")
    found = project.project_of(with_paths(tmp_path, etc="deploy/etc", opt="lib/libx.so.1"))
    assert found.outside == (
        ("/run/preflight/in/absolute/etc", "/etc"), ("/run/preflight/in/absolute/opt", "/opt"),
    )  # fmt: skip
    assert found.inputs["absolute/etc"] == tmp_path / "deploy/etc"
    assert found.given["/etc/app.toml"] == tmp_path / "deploy/etc/app.toml"
    assert found.given["/opt"] == library
    assert found.programs == {"web": tmp_path / "web"}


@pytest.mark.parametrize(
    ("name", "what"),
    [("gone", "does not exist"), ("out", "is a link out of the folder"), ("x/../../secret", "out of the folder")],
)
def test_a_path_outside_of_the_project_never_goes_in(tmp_path, name, what):
    home = tmp_path / "home"
    (home / "x").mkdir(parents=True)
    (home / "out").symlink_to(program(tmp_path, "secret"))
    with pytest.raises(UsageError, match=what):
        project.project_of(with_paths(home, etc=name))
