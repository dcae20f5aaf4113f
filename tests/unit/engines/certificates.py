"""Certificates for servers on loopback: an authority, and a server's certificate from it."""

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)


def make(folder: Path, *, names: tuple[str, ...] = ("localhost", "127.0.0.1"), days: int = 1) -> ssl.SSLContext:
    """What a server with a certificate for `names` uses; `ca.pem`, `cert.pem` and `key.pem` are in `folder` then.

    As simple as many are that projects make for tests: no key identifiers. With `days` below 0 it has expired.
    """
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("test authority")
    ca = _builder(issuer, issuer, authority, 1).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    cert = _builder(_name("server"), issuer, key, days).add_extension(_alternatives(names), critical=False)
    for name, made in (("ca", ca), ("cert", cert)):
        pem = made.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (folder / f"{name}.pem").write_bytes(pem)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:  # fmt: skip
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - 10 * _DAY).not_valid_after(now + days * _DAY)
    )  # fmt: skip


def _alternatives(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    addresses = [x509.IPAddress(ipaddress.ip_address(name)) for name in names if name[0].isdigit()]
    return x509.SubjectAlternativeName([*addresses, *(x509.DNSName(name) for name in names if not name[0].isdigit())])
