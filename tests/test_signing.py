"""Signatures: what a maker's key confirms is used, everything else is refused in one line."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.bundle import MANIFEST, MODEL, SIGNATURE, Bundle, open_bundle, read_signature, sign_bundle, write_bundle
from edgevit.errors import BundleError, ConfigError
from edgevit.signing import REQUIRE, check_signature, generate, required_keys, sign

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; the public one lies beside it."""
    path = tmp_path_factory.mktemp("keys") / "maker"
    generate(path)
    return path


@pytest.fixture
def public(key: Path) -> Path:
    return key.with_name("maker.pub")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Somebody else's public key."""
    return generate(tmp_path / "other")


@pytest.fixture(params=["folder", "zip"])
def bundle(request: pytest.FixtureRequest, bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle that may be changed, as a folder and as a zip."""
    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    if request.param == "folder":
        return copy
    opened = open_bundle(copy)
    path = tmp_path / "b.zip"
    write_bundle(path, opened.manifest, {name: opened.read(name) for name in opened.manifest.files})
    return path


def refused(path: Path, *keys: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path, keys).verify()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


# --- keys ------------------------------------------------------------------------------------------------------------


def test_private_key_is_private(key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" in key.read_text()
    assert "PRIVATE" not in key.with_name("maker.pub").read_text()


@pytest.mark.parametrize("name", ["maker", "maker.pub"])
def test_keys_are_never_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match="never overwritten"):
        generate(tmp_path / "maker")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_wrong_keys(key: Path, public: Path, tmp_path: Path) -> None:
    """Each says what is wrong: swapped, missing, no key at all, of another kind, encrypted."""
    rubbish, empty = tmp_path / "rubbish", tmp_path / "empty"
    rubbish.write_bytes(bytes(range(256)) * 1000)
    empty.touch()
    with pytest.raises(ConfigError, match=r"this is a public key, and a private one is needed here: the file without \.pub"):
        sign(b"", public)
    with pytest.raises(ConfigError, match=r"this is a private key, and a public one is needed here: the file with \.pub"):
        check_signature(b"", b"", [key], "b")
    for path in (rubbish, empty, tmp_path / "none", tmp_path):
        for use in (lambda path=path: sign(b"", path), lambda path=path: check_signature(b"", b"", [path], "b")):
            with pytest.raises(ConfigError, match="edgevit keygen NAME"):
                use()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl(key: Path, public: Path, bundle_path: Path, tmp_path: Path) -> None:
    """Its keys are taken, it confirms our signatures; keys of other kinds and encrypted ones are refused."""

    def openssl(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)

    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    sign_bundle(copy, key)
    openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", copy / MANIFEST, "-sigfile", copy / SIGNATURE)
    own, rsa, locked = tmp_path / "own", tmp_path / "rsa", tmp_path / "locked"
    openssl("genpkey", "-algorithm", "ed25519", "-out", own)
    openssl("pkey", "-in", own, "-pubout", "-out", tmp_path / "own.pub")
    check_signature(b"content", sign(b"content", own), [tmp_path / "own.pub"], "b")
    openssl("genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", rsa)
    with pytest.raises(ConfigError, match="no private ed25519 key"):
        sign(b"", rsa)
    openssl("pkey", "-in", own, "-aes256", "-passout", "pass:x", "-out", locked)
    with pytest.raises(ConfigError, match="this key is encrypted"):
        sign(b"", locked)


# --- bundles ---------------------------------------------------------------------------------------------------------


def test_signed(bundle: Path, key: Path, public: Path, other: Path) -> None:
    """The maker's key confirms it, also among others; nothing but the signature was written."""
    manifest = open_bundle(bundle).manifest
    sign_bundle(bundle, key)
    for keys in ((public,), (other, public), ()):
        opened = open_bundle(bundle, keys)
        opened.verify()
        assert opened.manifest == manifest
    assert len(read_signature(bundle)) == 64
    assert [path for path in bundle.parent.iterdir() if path.name.startswith(".b")] == []


def test_signed_again(bundle: Path, key: Path, public: Path, other: Path) -> None:
    """The newer signature takes the place of the older."""
    sign_bundle(bundle, other.with_suffix(""))
    assert "is not one that" in refused(bundle, public)
    sign_bundle(bundle, key)
    open_bundle(bundle, [public])
    assert "is not one that" in refused(bundle, other)


def test_unsigned(bundle: Path, public: Path) -> None:
    assert f"not signed, and a signature that {public} confirms is required" in refused(bundle, public)


def test_tampered_manifest(bundle_path: Path, tmp_path: Path, key: Path, public: Path) -> None:
    """Any byte of it: even a blank that changes nothing else, and it is noticed before it is parsed."""
    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    sign_bundle(copy, key)
    whole = (copy / MANIFEST).read_bytes()
    for changed in (whole + b" ", whole.replace(b'"disc"', b'"disk"'), whole[:-1], b"", b"{", b"[" * 100_000):
        (copy / MANIFEST).write_bytes(changed)
        assert "Do not trust it" in refused(copy, public)


def test_tampered_files(bundle_path: Path, tmp_path: Path, key: Path, public: Path) -> None:
    """The signed manifest has their hashes."""
    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    sign_bundle(copy, key)
    for name in open_bundle(copy).manifest.files:
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert f"{name} is not the file that was built" in refused(copy, public)
        (copy / name).write_bytes(whole)


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 64, b"\0" * 64, b"x" * 65, b"x" * 10**6])
def test_made_up_signatures(signature: bytes, bundle_path: Path, tmp_path: Path, public: Path) -> None:
    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    (copy / SIGNATURE).write_bytes(signature)
    assert "is not one that" in refused(copy, public)


def test_signature_of_another_bundle(bundle_path: Path, tmp_path: Path, key: Path, public: Path) -> None:
    """A true signature, and not of this."""
    copies = [Path(shutil.copytree(bundle_path, tmp_path / name)) for name in ("a", "b")]
    text = (copies[1] / MANIFEST).read_text(encoding="utf-8")
    (copies[1] / MANIFEST).write_text(text.replace('"disc"', '"disk"'), encoding="utf-8")
    sign_bundle(copies[0], key)
    shutil.copy(copies[0] / SIGNATURE, copies[1])
    assert "is not one that" in refused(copies[1], public)


def test_damaged_bundles_are_not_signed(bundle_path: Path, tmp_path: Path, key: Path) -> None:
    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    (copy / MODEL).write_bytes(b"no")
    with pytest.raises(BundleError):
        sign_bundle(copy, key)
    assert read_signature(copy) is None


def test_writing_anew_takes_the_signature_away(bundle: Path, key: Path, public: Path) -> None:
    """It was not of this content."""
    sign_bundle(bundle, key)
    opened = open_bundle(bundle)
    write_bundle(bundle, opened.manifest, {name: opened.read(name) for name in opened.manifest.files})
    assert "not signed" in refused(bundle, public)


# --- the environment and the commands ----------------------------------------------------------------------------------


def test_required_by_the_environment(bundle: Path, key: Path, public: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For services: no command opens another bundle, and a key that is not there opens none."""
    monkeypatch.setenv(REQUIRE, str(public))
    assert "not signed" in refused(bundle)
    monkeypatch.delenv(REQUIRE)
    sign_bundle(bundle, key)
    monkeypatch.setenv(REQUIRE, f"{other}:{public}")
    assert required_keys() == (other, public)
    open_bundle(bundle)
    monkeypatch.setenv(REQUIRE, str(other))
    assert "is not one that" in refused(bundle)
    monkeypatch.setenv(REQUIRE, f"{public}:/nowhere/key.pub")
    with pytest.raises(ConfigError, match=r"/nowhere/key\.pub: cannot read this key"):
        open_bundle(bundle)


def test_commands(edgevit, bundle_path: Path, tmp_path: Path) -> None:
    """From the keys to a run, and what inspect says of it."""
    copy, key = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit")), tmp_path / "maker"
    run = ["run", copy, "test://64x48?frames=1", "--headless", "--require-signature", f"{key}.pub"]
    assert edgevit("keygen", key, "--json").json == {"private": str(key), "public": f"{key}.pub"}
    assert edgevit(*run).code == 5
    assert edgevit("inspect", copy).stdout.split("signature", 1)[1].split()[0] == "none"
    assert "4 files checked and signed" in edgevit("sign", copy, "--key", key).stdout
    assert edgevit(*run).code == 0
    assert "there, not checked" in edgevit("inspect", copy).stdout
    assert "confirmed by" in edgevit("inspect", copy, "--require-signature", f"{key}.pub").stdout
    compiled = edgevit("compile", copy, "--require-signature", edgevit("keygen", tmp_path / "b", "--json").json["public"])
    assert (compiled.code, "is not one that" in compiled.stderr) == (5, True)


def test_service_demands_what_its_maker_demanded(
    edgevit, bundle_path: Path, tmp_path: Path, key: Path, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable goes into the unit."""
    import getpass

    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    sign_bundle(copy, key)
    monkeypatch.setattr("edgevit.device.service.UNKEPT", ())
    monkeypatch.setenv(REQUIRE, str(public))
    out = tmp_path / "x.service"
    outcome = edgevit("service", copy, "0", "--user", getpass.getuser(), "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert f'Environment="{REQUIRE}={public}"' in out.read_text(encoding="utf-8")


def test_without_the_package(edgevit_process, bundle_path: Path, public: Path) -> None:
    """A device that cannot check refuses, and says what to install."""
    arguments = ["run", bundle_path, "test://64x48?frames=1", "--headless", "--require-signature", public]
    outcome = edgevit_process(*arguments, without=("cryptography",))
    assert outcome.code == 8
    assert "pip install 'edgevit[sign]'" in outcome.stderr


@pytest.mark.parametrize("value", [":", "", "::", " ", " : "])
def test_variable_without_a_key_refuses(edgevit, bundle_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """``$KEYS:``, where KEYS is not set, was meant to demand a signature."""
    monkeypatch.setenv(REQUIRE, value)
    with pytest.raises(ConfigError, match="names no key"):
        required_keys()
    for arguments in (["inspect"], ["run", "test://8x8?frames=1"]):
        outcome = edgevit(arguments[0], bundle_path, *arguments[1:])
        assert outcome.code == 2
        assert "EDGEVIT_REQUIRE_SIGNATURE is set, but names no key" in outcome.stderr


def test_what_is_signed_is_what_was_checked(bundle: Path, key: Path, public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody exchanges the manifest between the check and the signature: theirs is not signed."""
    if bundle.is_file():
        pytest.skip("a zip is written anew, with the manifest that was checked")
    checked = (bundle / MANIFEST).read_bytes()
    verify = Bundle.verify

    def exchange(self: Bundle) -> None:
        verify(self)
        (bundle / MANIFEST).write_bytes(checked.replace(b'"labels"', b'"labels" '))

    monkeypatch.setattr(Bundle, "verify", exchange)
    sign_bundle(bundle, key)
    assert "Do not trust it" in refused(bundle, public)
    (bundle / MANIFEST).write_bytes(checked)
    open_bundle(bundle, (public,))


def test_zip_is_signed_as_it_was_checked(bundle: Path, key: Path, public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if bundle.is_dir():
        pytest.skip("a folder's manifest is left where it is")
    original, verify = bundle.read_bytes(), Bundle.verify

    def exchange(self: Bundle) -> None:
        verify(self)
        manifest = replace(self.manifest, name="exchanged")
        write_bundle(bundle, manifest, {name: self.read(name) for name in manifest.files})

    monkeypatch.setattr(Bundle, "verify", exchange)
    sign_bundle(bundle, key)
    assert open_bundle(bundle, (public,)).manifest.name != "exchanged"
    assert bundle.read_bytes() != original
