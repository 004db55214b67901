"""Against keys made by cryptography, and signatures that the package's own command makes and accepts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_factory import edit_manifest, make_bundle, zip_bundle
from typer.testing import CliRunner, Result

from pocketface.sdk import cli
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import (
    BadInputError,
    BundleError,
    EnvironmentProblemError,
    MissingExtraError,
    SignatureError,
)
from pocketface.sdk.signing import Identity, Keyless, PrivateKey, PublicKey, open_signed, sign_bundle, verify_signature

MODEL = "models/tiny.fp32.onnx"

pytest.importorskip("model_signing", reason="the extra 'sign' has an environment of its own: make signing")


def key_pair(folder: Path, name: str = "key", curve: str = "SECP256R1", password: bytes | None = None) -> PrivateKey:
    """A key of cryptography's in PEM; the public one lies beside it as NAME.pub."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(getattr(ec, curve)())
    locked = form.NoEncryption() if password is None else form.BestAvailableEncryption(password)
    (folder / f"{name}.pem").write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked))
    (folder / f"{name}.pub").write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return PrivateKey(folder / f"{name}.pem", None if password is None else password.decode())


def public(signer: PrivateKey) -> PublicKey:
    return PublicKey(signer.path.with_suffix(".pub"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrivateKey]:
    place = tmp_path_factory.mktemp("signed")
    key = key_pair(place)
    folder = make_bundle(place / "bundle", size=16, points=4, variants=("fp32.onnx", "fp16.coreml"))
    sign_bundle(folder, key)
    return folder, key


@pytest.fixture
def signed(made: tuple[Path, PrivateKey], tmp_path: Path) -> tuple[Path, PublicKey]:
    return Path(shutil.copytree(made[0], tmp_path / "bundle")), public(made[1])


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_a_folder(signed: tuple[Path, PublicKey]) -> None:
    folder, key = signed
    files = verify_signature(folder, key)
    inside = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(files) == inside - {"model.sig"}
    with open_signed(folder, key) as bundle:
        assert bundle.manifest.name == "tiny"
        assert bundle.signature == folder / "model.sig"
    open_bundle(folder)  # who does not ask is not held up by it


def test_a_pface_file_has_the_same_signature_as_its_folder(signed: tuple[Path, PublicKey], tmp_path: Path) -> None:
    folder, key = signed
    packed = zip_bundle(folder, tmp_path / "a.pface")
    with open_signed(packed, key) as bundle:
        assert bundle.manifest == open_bundle(folder).manifest
        root = bundle.root
        assert bundle.signature is not None
    assert not root.exists()
    with open_bundle(packed) as bundle:
        assert bundle.signature is not None


def test_signing_a_pface_file(made: tuple[Path, PrivateKey], signed: tuple[Path, PublicKey], tmp_path: Path) -> None:
    folder, key = signed
    (folder / "model.sig").unlink()
    packed, out = zip_bundle(folder, tmp_path / "a.pface"), tmp_path / "b.pface"
    before = packed.read_bytes()
    with pytest.raises(BadInputError, match=r"--out.*--force"):
        sign_bundle(packed, made[1])
    assert sign_bundle(packed, made[1], out=out) == out
    assert packed.read_bytes() == before
    verify_signature(out, key)
    assert sign_bundle(packed, made[1], force=True) == packed
    verify_signature(packed, key)
    sign_bundle(packed, made[1], force=True)  # the old signature goes
    assert zipfile.ZipFile(packed).namelist().count("model.sig") == 1


def changed(folder: Path) -> None:
    data = bytearray((folder / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL).write_bytes(data)


TAMPERED: dict[str, Callable[[Path], object]] = {
    "a byte of a model": changed,
    "a byte of the manifest": lambda folder: edit_manifest(folder, lambda raw: raw.update(weights_licence="CC0-1.1")),
    "a file added": lambda folder: (folder / "readme.txt").write_text("x"),
    "a hidden file added": lambda folder: (folder / ".gitignore").write_text("x"),
    "a file removed": lambda folder: (folder / "card.md").unlink(),
    "a file renamed": lambda folder: (folder / "card.md").rename(folder / "card2.md"),
    "two files swapped": lambda folder: (
        (folder / "golden/000.npz").rename(folder / "x"),
        (folder / "golden/001.npz").rename(folder / "golden/000.npz"),
        (folder / "x").rename(folder / "golden/001.npz"),
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_bundle_that_was_tampered_with(
    signed: tuple[Path, PublicKey], tmp_path: Path, how: str, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, key = signed
    TAMPERED[how](folder)
    path = zip_bundle(folder, tmp_path / "a.pface") if zipped else folder

    def read(_: bytes) -> None:
        raise AssertionError("the manifest was read before the signature was found to hold")

    monkeypatch.setattr("pocketface.sdk.manifest.decode", read)
    for opening in (verify_signature, open_signed):
        with pytest.raises(SignatureError, match=r"the signature does not hold.*Do not trust") as caught:
            opening(path, key)
        assert caught.value.exit_code == 2


def test_a_link_or_a_pipe_is_refused_without_being_followed(signed: tuple[Path, PublicKey], tmp_path: Path) -> None:
    folder, key = signed
    os.mkfifo(folder / "pipe")
    with pytest.raises(BundleError, match="pipe is a link or no plain file"):
        verify_signature(folder, key)
    (folder / "pipe").unlink()
    (folder / "card.md").rename(tmp_path / "card.md")
    (folder / "card.md").symlink_to(tmp_path / "card.md")
    with pytest.raises(BundleError, match=r"card.md is a link"):
        verify_signature(folder, key)


def test_another_key(signed: tuple[Path, PublicKey], tmp_path: Path) -> None:
    other = key_pair(tmp_path, "other")
    with pytest.raises(
        SignatureError, match=r"does not hold.*Key mismatch.*expected this bundle, signed with the key of"
    ):
        verify_signature(signed[0], public(other))


def test_another_key_behind_the_right_ones_fingerprint(signed: tuple[Path, PublicKey], tmp_path: Path) -> None:
    """The fingerprint beside a signature is not signed: an attacker writes the one that is asked for."""
    folder, key = signed
    right = json.loads((folder / "model.sig").read_text())["verificationMaterial"]
    other = key_pair(tmp_path, "other")
    changed(folder)
    edit_manifest(folder, lambda raw: raw["stages"][0]["variants"][0].update(reason="mine"))
    (folder / "model.sig").unlink()
    import hashlib

    data = (folder / MODEL).read_bytes()
    edit_manifest(
        folder,
        lambda raw: raw["stages"][0]["variants"][0]["files"][0].update(sha256=hashlib.sha256(data).hexdigest()),
    )
    sign_bundle(folder, other)
    verify_signature(folder, public(other))
    forged = json.loads((folder / "model.sig").read_text())
    (folder / "model.sig").write_text(json.dumps({**forged, "verificationMaterial": right}))
    with pytest.raises(SignatureError, match="does not hold"):
        verify_signature(folder, key)


def test_not_signed(signed: tuple[Path, PublicKey]) -> None:
    folder, key = signed
    (folder / "model.sig").unlink()
    with pytest.raises(SignatureError, match=r"is not signed.*pocketface sign"):
        verify_signature(folder, key)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"verificationMaterial": 3}', b"[" * 9000])
def test_a_file_that_is_no_signature(signed: tuple[Path, PublicKey], data: bytes) -> None:
    folder, key = signed
    (folder / "model.sig").write_bytes(data)
    with pytest.raises(SignatureError, match="does not hold"):
        verify_signature(folder, key)


def test_a_signature_that_leaves_listed_files_out(
    made: tuple[Path, PrivateKey], signed: tuple[Path, PublicKey]
) -> None:
    """As made by other tools: the package verifies it, and says nothing about the models."""
    import model_signing

    folder, key = signed
    (folder / "model.sig").unlink()
    some = model_signing.hashing.Config().set_ignored_paths(paths=["model.sig", "models"])
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=made[1].path)
    config.set_hashing_config(some).sign(folder, folder / "model.sig")
    assert MODEL not in verify_signature(folder, key)
    with pytest.raises(SignatureError, match="is not what was signed"):
        open_signed(folder, key)


def test_what_is_opened_is_what_was_signed(signed: tuple[Path, PublicKey], monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that changes between the verification and the opening, with hashes that fit it."""
    from pocketface.sdk import signing

    folder, key = signed
    verified = signing._verified

    def slow(*arguments: object) -> dict[str, str]:
        files = verified(*arguments)  # type: ignore[arg-type]
        edit_manifest(folder, lambda raw: raw.update(weights_licence="other"))
        return files

    monkeypatch.setattr(signing, "_verified", slow)
    with pytest.raises(SignatureError, match=r"manifest.json is not what was signed"):
        open_signed(folder, key)


@pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
def test_curves_and_passwords(signed: tuple[Path, PublicKey], tmp_path: Path, curve: str) -> None:
    key = key_pair(tmp_path, "locked", curve, b"secret")
    sign_bundle(signed[0], key, force=True)
    verify_signature(signed[0], public(key))
    for wrong in (None, "guess"):
        with pytest.raises(BadInputError, match=r"locked.pem cannot be used"):
            sign_bundle(signed[0], PrivateKey(key.path, wrong), force=True)


def test_keys_that_cannot_be_used(signed: tuple[Path, PublicKey], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ed25519

    (tmp_path / "text.pem").write_text("no key")
    (tmp_path / "other.pem").write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        )
    )
    key_pair(tmp_path, "odd", "SECP256K1")
    for name in ("text.pem", "other.pem", "odd.pem"):
        with pytest.raises(BadInputError, match=f"{name} cannot be used.*P-256.*openssl"):
            sign_bundle(signed[0], PrivateKey(tmp_path / name), force=True)
    for path in (tmp_path / "none.pem", tmp_path):
        with pytest.raises(BadInputError, match="no such key"):
            sign_bundle(signed[0], PrivateKey(path), force=True)
        with pytest.raises(BadInputError, match="no such key"):
            verify_signature(signed[0], PublicKey(path))
    with pytest.raises(BadInputError, match=r"text.pem cannot be used"):
        verify_signature(signed[0], PublicKey(tmp_path / "text.pem"))


def test_a_broken_bundle_is_not_signed(signed: tuple[Path, PublicKey], made: tuple[Path, PrivateKey]) -> None:
    changed(signed[0])
    before = (signed[0] / "model.sig").read_bytes()
    with pytest.raises(BundleError, match="SHA-256"):
        sign_bundle(signed[0], made[1], force=True)
    assert (signed[0] / "model.sig").read_bytes() == before


def test_the_packages_own_command_accepts_ours(signed: tuple[Path, PublicKey]) -> None:
    folder, key = signed
    arguments = ["verify", "key", folder, "--signature", folder / "model.sig", "--public_key", key.path]
    line = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    changed(folder)
    assert subprocess.run(line, capture_output=True).returncode != 0


@pytest.mark.parametrize("what", ["sign", "verify"])
def test_without_a_network_keyless_is_the_machines_problem(signed: tuple[Path, PublicKey], what: str) -> None:
    """In a process of its own, whose way to the network leads nowhere."""
    code = (
        "import sys; from pocketface.sdk.signing import *\n"
        "from pocketface.sdk.errors import EnvironmentProblemError\n"
        "try:\n"
        + (
            f"    sign_bundle({str(signed[0])!r}, Keyless(token='a.b.c'), force=True)\n"
            if what == "sign"
            else f"    verify_signature({str(signed[0])!r}, Identity('me@example.org', 'https://example.org'))\n"
        )
        + "except EnvironmentProblemError as error:\n    print(error.exit_code, error)\n"
    )
    nowhere = "http://127.0.0.1:9"
    home = str(signed[0].parent)
    proxies = {"HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "https_proxy": nowhere, "http_proxy": nowhere}
    away = {**os.environ, **proxies, "HOME": home, "XDG_DATA_HOME": home, "XDG_CACHE_HOME": home, "NO_PROXY": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=away)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"3 cannot {what} without a key: Sigstore does not answer"), done.stdout + done.stderr
    assert "Check the network" in done.stdout
    assert EnvironmentProblemError.exit_code == 3
    assert Keyless() != Identity("a", "b")


def test_the_commands(signed: tuple[Path, PublicKey], made: tuple[Path, PrivateKey]) -> None:
    folder, key = signed
    result = call("sign", folder, "--private-key", made[1].path)
    assert result.exit_code == 2
    assert "is signed already" in result.stderr
    assert call("sign", folder, "--private-key", made[1].path, "--force").exit_code == 0
    for arguments in ((), ("--private-key", made[1].path, "--keyless")):
        assert call("sign", folder, *arguments).exit_code == 2
    changed(folder)
    result = call("verify", folder, "--public-key", key.path)
    assert result.exit_code == 2
    assert "the signature does not hold" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert call("verify", folder, "--identity", "me").exit_code == 2


def test_verify_goes_on_after_the_signature(signed: tuple[Path, PublicKey]) -> None:
    result = call("verify", signed[0], "--public-key", signed[1].path, "--allow-unchecked", "--variant", "fp32.onnx")
    assert result.exit_code == 0, result.output
    assert "signed with the key of" in result.stderr


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, signed: tuple[Path, PublicKey]) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(MissingExtraError, match="signing needs the extra 'sign'"):
        verify_signature(*signed)
