"""The certificate that signs manifests: made on this machine, or the user's own from a certification authority.

A certificate made here proves that a file is unchanged since it was signed, and that the same installation signed two
files. It does not prove who the signer is: no authority confirms it, and validators report "signing credential
untrusted".
"""

from __future__ import annotations

import datetime
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import PrivFedTalkError, UnwritableError
from common.files import replacing, write_text

ENVIRONMENT_VARIABLE = "PRIVFEDTALK_SIGNING"
"""Names the folder with `chain.pem` and `key.pem` (ECDSA on P-256); by default one in the user's configuration."""
YEARS = 10
_ELSEWHERE = f"export {ENVIRONMENT_VARIABLE}=FOLDER"


@dataclass(frozen=True)
class Identity:
    """A certificate chain, the signer's first, and the signer's private key, both PEM. The repr omits the key."""

    chain: str
    key: str = field(repr=False)


def signing_folder() -> Path:
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return Path(named).expanduser()
    try:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    except RuntimeError as error:
        raise PrivFedTalkError(
            "the user has no home folder for the identity that signs clips", f"name one: {_ELSEWHERE}"
        ) from error
    return home / "privfedtalk" / "signing"


def open_identity(folder: Path | None = None) -> Identity:
    """The identity in `folder`, by default `signing_folder()`; it is made at first use.

    If several processes arrive first at once, one makes the pair and all use it. Raises PrivFedTalkError if only one
    of the two files exists, if one cannot be read, or if they do not belong together.
    """
    folder = folder or signing_folder()
    chain, key = folder / "chain.pem", folder / "key.pem"
    if not (chain.exists() and key.exists()):
        with _locked(folder):
            if chain.exists() != key.exists():
                there, lacking = (chain, key) if chain.exists() else (key, chain)
                raise PrivFedTalkError(
                    f"{there} is there and {lacking.name} beside it is not",
                    "put both there, or remove it: a pair is then made",
                )
            if not chain.exists():
                _save(make_identity(), chain, key)
    identity = Identity(chain.read_text(encoding="utf-8"), key.read_text(encoding="utf-8"))
    _check_pair(identity, folder)
    return identity


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on `folder`, so that only one process makes a pair there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise UnwritableError(
            f"{folder}, which is to hold the identity that signs clips, cannot be written: {error.strerror}",
            f"mend that, or name another: {_ELSEWHERE}",
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _save(made: Identity, chain: Path, key: Path) -> None:
    with replacing(key) as partial:
        partial.touch(mode=0o600)
        partial.write_text(made.key, encoding="utf-8")
    write_text(chain, made.chain)


def _check_pair(identity: Identity, folder: Path) -> None:
    """Raise PrivFedTalkError unless the private key belongs to the chain's first certificate."""
    remedy = "put a chain and its own key there, or remove both: a pair is then made"
    try:
        certificate = x509.load_pem_x509_certificates(identity.chain.encode())[0]
        key = serialization.load_pem_private_key(identity.key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's error may quote the key, so it is not passed on.
        raise PrivFedTalkError(f"chain.pem or key.pem in {folder} cannot be read as PEM", remedy) from None
    if certificate.public_key() != key.public_key():
        raise PrivFedTalkError(f"chain.pem and key.pem in {folder} do not belong together", remedy)


def make_identity() -> Identity:
    """A new key on P-256, certified by an authority that is made for this purpose and whose key is discarded.

    C2PA refuses self-signed certificates.
    """
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("PrivFedTalk local authority, vouched for by nobody")
    authority = (
        _builder(authority_name, authority_name, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _builder(_name("PrivFedTalk, this installation"), authority_name, key, authority_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return Identity(
        chain="".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in (certificate, authority)),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey | None = None,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    by = (issuer_key or key).public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "PrivFedTalk"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
