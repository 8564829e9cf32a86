"""Ed25519 signatures over a manifest, which holds the SHA-256 of every other file of a bundle.

A signature is 64 raw bytes in a file of its own, and keys are PEM files: OpenSSL makes and checks them as well. The
mathematics is the package cryptography's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevit.errors import BundleError, ConfigError, StorageError, needs_extra
from edgevit.files.bounded import open_regular
from edgevit.files.paths import exists
from edgevit.files.writing import write_new

BYTES = 64
"""Of a signature."""
REQUIRE = "EDGEVIT_REQUIRE_SIGNATURE"
"""Environment variable: public keys, separated as in PATH; a bundle must be signed by one of them."""
_TAKEN = "{}: exists; a key is never overwritten. Choose another name."
_KEY_LIMIT = 16 * 1024  # bytes; a PEM file of ed25519 has about 120


def required_keys(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The public keys that this process demands of every bundle; empty if it demands none.

    Raises ConfigError if the variable is set and names no key, as ``$KEYS:`` does where KEYS is unset: whoever set it meant to
    demand one.
    """
    if REQUIRE not in environment:
        return ()
    keys = tuple(Path(name) for name in environment[REQUIRE].split(os.pathsep) if name.strip())
    if not keys:
        msg = f"{REQUIRE} is set, but names no key: write the paths of public keys, or unset it."
        raise ConfigError(msg)
    return keys


def generate(path: Path) -> Path:
    """Write a new private key to ``path``, for its owner's eyes alone, and the public one beside it with the suffix ``.pub``.

    Returns the public key's path. Raises ConfigError if either exists: a key that is overwritten is lost; StorageError, and then
    neither is left.
    """
    with needs_extra("sign"):
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    public = path.with_name(f"{path.name}.pub")
    for existing in (path, public):
        if os.path.lexists(existing) or exists(existing, StorageError):
            raise ConfigError(_TAKEN.format(existing))
    key = Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public_pem = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    # The private one last: what fails leaves none behind that nobody could check.
    _write(public, public_pem, 0o644)
    try:
        _write(path, private_pem, 0o600)
    except BaseException:
        public.unlink(missing_ok=True)
        raise
    return public


def _write(path: Path, pem: bytes, mode: int) -> None:
    if not write_new(path, pem, mode=mode):
        raise ConfigError(_TAKEN.format(path))


def sign(content: bytes, private: Path) -> bytes:
    """The signature of ``content`` by the key in the file ``private``. Raises ConfigError if that is no private ed25519 key."""
    with needs_extra("sign"):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    pem = _pem(private)
    try:
        key: Any = load_pem_private_key(pem, password=None)
    except TypeError as error:
        msg = f"{private}: this key is encrypted. Decrypt it for signing: openssl pkey -in {private} -out PLAIN"
        raise ConfigError(msg) from error
    except Exception as error:  # of several kinds, by what is wrong with the file
        raise ConfigError(_no_key(private, "private", pem)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(_no_key(private, "private", pem))
    return key.sign(content)


def check_signature(content: bytes, signature: bytes | None, keys: Sequence[Path], where: object) -> None:
    """Raise BundleError, naming ``where``, unless ``signature`` is one of ``content`` by any of ``keys``, files of public keys.

    Raises ConfigError for a file that is no public ed25519 key, whatever the others say: a typing error is not to weaken it.
    """
    with needs_extra("sign"):
        from cryptography.exceptions import InvalidSignature
    public = [_public(key) for key in keys]
    names = " or ".join(map(str, keys))
    if signature is None:
        msg = f"{where}: not signed, and a signature that {names} confirms is required. Its maker signs it with: edgevit sign"
        raise BundleError(msg)
    for key in public if len(signature) == BYTES else ():
        try:
            key.verify(signature, content)
        except InvalidSignature:
            continue
        return
    msg = f"{where}: its signature is not one that {names} confirms: another key's, or it was changed since. Do not trust it."
    raise BundleError(msg)


def _public(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = _pem(path)
    try:
        key = load_pem_public_key(pem)
    except Exception as error:  # the same
        raise ConfigError(_no_key(path, "public", pem)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(_no_key(path, "public", pem))
    return key


def _pem(path: Path) -> bytes:
    try:
        with open_regular(path) as stream:
            return stream.read(_KEY_LIMIT)
    except OSError as error:
        msg = f"{path}: cannot read this key: {error.strerror or error}. Make a pair with: edgevit keygen NAME"
        raise ConfigError(msg) from error


def _no_key(path: Path, kind: str, pem: bytes) -> str:
    other = "public" if kind == "private" else "private"
    if f"{other.upper()} KEY-----".encode() in pem:
        file = "without" if kind == "private" else "with"
        return f"{path}: this is a {other} key, and a {kind} one is needed here: the file {file} .pub."
    return f"{path}: no {kind} ed25519 key in PEM. Make a pair with: edgevit keygen NAME"
