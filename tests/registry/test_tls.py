"""TLS with a CA of one's own, against the real docker-registry."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from imagechain.config import RegistrySettings
from imagechain.refs import parse_reference
from imagechain.registry import AbsentError, RegistryClient, UncheckedError, UnreachableError
from registry.servers import run_registry


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for loopback that nobody trusts yet; its key lies beside it."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: it makes the certificate of this test")
    file = tmp_path / "certificate.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "30",
                "-subj",
                "/CN=tests",
            ),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", file.with_name("key.pem"), "-out", file),
        ],
        check=True,
        capture_output=True,
    )
    return file


def head(address: str, *, insecure: bool = False) -> None:
    async def run() -> None:
        async with RegistryClient(settings={address: RegistrySettings(insecure=insecure)}) as client:
            await client.head(parse_reference(f"{address}/group/base"))

    asyncio.run(run())


def test_an_own_ca_counts_as_soon_as_the_machine_trusts_it(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = {"certificate": str(certificate), "key": str(certificate.with_name("key.pem"))}
    with run_registry(tmp_path, tls=tls) as server:
        with pytest.raises(UnreachableError, match="SSL_CERT_FILE"):
            head(server.address)
        # Plain HTTP is not tried behind anybody's back, and does not pass for "absent" either.
        with pytest.raises(UncheckedError):
            head(server.address, insecure=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(AbsentError):
            head(server.address)


def test_a_registry_without_tls_is_unreachable_until_it_is_called_insecure(tmp_path: Path) -> None:
    with run_registry(tmp_path) as server:
        with pytest.raises(UnreachableError, match="insecure = true"):
            head(server.address)
        with pytest.raises(AbsentError):
            head(server.address, insecure=True)
