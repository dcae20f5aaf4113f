"""Between a job and its forge: a CA of one's own, and a proxy that wants a password."""

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.contract.forge import github as gh
from tests.contract.forge import gitlab as gl
from tests.contract.forge.proxy import PASSWORD, Proxy
from tests.unit.publish.jobs import FAIL, github_env, gitlab_env, write_report


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate for 127.0.0.1 that no machine trusts, and the context of a server that shows it."""
    folder: Path = tmp_path_factory.mktemp("ca")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a CA of our own")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context, str(folder / "ca.pem")


@pytest.fixture(params=["github", "gitlab"])
def forge(request, tmp_path, authority):
    """A forge behind TLS, the environment of a job on it, and how its server's CA is told."""
    made = gh.GitHub() if request.param == "github" else gl.GitLab()
    made.tls = authority[0]
    with made.running():
        environ = (github_env if request.param == "github" else gitlab_env)(made, tmp_path)
        own = "CGROUP_PREFLIGHT_CA_FILE" if request.param == "github" else "CI_SERVER_TLS_CA_FILE"
        yield made, environ, {own: authority[1]}
    assert made.problems == []


@pytest.fixture
def proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Proxy().running() as made:
        yield made


@pytest.fixture
def failing(tmp_path):
    return write_report(tmp_path / "report.json", FAIL)


def _written(forge):
    return forge.comments if isinstance(forge, gh.GitHub) else forge.notes


def test_a_ca_of_ones_own(forge, call, failing, proxy, capsys, authority):
    made, environ, trusting = forge
    assert call(environ, failing, "--publish", "strict") == 5
    told = capsys.readouterr().err
    assert "TLS certificate not accepted" in told
    assert "next: set CGROUP_PREFLIGHT_CA_FILE to the CA's certificate" in told
    assert made.calls == []
    assert call(environ | trusting, failing, "--publish", "strict") == 0
    assert call(environ | {"REQUESTS_CA_BUNDLE": authority[1]}, failing, "--publish", "strict") == 0
    assert len(_written(made)) == 1


def test_a_ca_file_that_is_absent(forge, call, failing, proxy, tmp_path, capsys):
    made, environ, trusting = forge
    assert call(environ | dict.fromkeys(trusting, str(tmp_path / "absent.pem")), failing, "--publish", "strict") == 5
    told = capsys.readouterr().err
    assert "the CA certificate file cannot be read" in told
    assert (
        "next: set CGROUP_PREFLIGHT_CA_FILE, CI_SERVER_TLS_CA_FILE or REQUESTS_CA_BUNDLE to an existing file in PEM"
        in told
    )
    assert made.calls == []


def test_through_a_proxy(forge, call, failing, proxy, capsys):
    made, environ, trusting = forge
    environ |= trusting | {"HTTPS_PROXY": proxy.url}
    assert call(environ, failing, "--publish", "strict") == 0
    assert len(_written(made)) == 1
    assert set(proxy.seen) == {f"CONNECT {made.url.removeprefix('https://')}"}
    proxy.refuses = True
    assert call(environ, failing, "--publish", "strict", "--deadline", "2") == 5
    told = capsys.readouterr()
    assert "the proxy comes from HTTPS_PROXY and NO_PROXY" in told.err
    assert PASSWORD not in told.out + told.err
    proxy.seen.clear()
    assert call(environ | {"NO_PROXY": "127.0.0.1"}, failing, "--publish", "strict") == 0
    assert proxy.seen == []


def test_through_a_proxy_without_tls(github, tmp_path, call, failing, proxy):
    environ = github_env(github, tmp_path, HTTP_PROXY=proxy.url)
    assert call(environ, failing, "--publish", "strict") == 0
    assert len(github.comments) == 1
    assert len(proxy.seen) == len(github.calls)
