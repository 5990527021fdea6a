"""TLS to a checked address: the certificate must be that of the name in the URL."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from raincheck.core.errors import RequestFailed
from raincheck.egress.addresses import AllowedNetworks, parse_networks
from raincheck.egress.client import Egress, Response, parse_url
from tests.receiver import answering, receiving, response


def certificate(folder: Path, name: str) -> Path:
    """A file with a certificate for a name, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + signed.public_bytes(serialization.Encoding.PEM)
    file = folder / f"{name}.pem"
    file.write_bytes(text)
    return file


async def post(name: str, port: int) -> Response:
    """Send a request to a name that resolves to this machine."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with Egress(AllowedNetworks(parse_networks(["127.0.0.1/32"])), resolve) as egress:
        return await egress.post(parse_url(f"https://{name}:{port}/"), {}, b"", 100)


async def test_the_name_of_the_url_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And sent, although the connection is made to an address."""
    file = certificate(tmp_path, "functions.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.sni_callback = lambda socket, name, context: names.append(name)
    async with receiving(answering(response(b"1")), tls=context) as receiver:
        assert (await post("functions.example", receiver.port)).body == b"1"
        with pytest.raises(RequestFailed, match="certificate verify failed"):
            await post("other.example", receiver.port)
        assert len(receiver.requests) == 1
    assert names == ["functions.example", "other.example"]


async def test_a_certificate_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    """By the certificates of the system."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, "functions.example"))
    async with receiving(answering(response(b"1")), tls=context) as receiver:
        with pytest.raises(RequestFailed, match="certificate verify failed"):
            await post("functions.example", receiver.port)
