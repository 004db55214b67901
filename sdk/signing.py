"""Who made this bundle? Signatures by the OpenSSF model-signing specification, through its own package.

bundle --SHA-256 of every file--> statement --private key, or an identity (Sigstore)--> model.sig beside manifest.json
signed bundle --signature, then every file against it--> only now the manifest is read --> Bundle

A signature covers all files of the folder but itself: one that is changed, added or removed makes it invalid. A
``.pface`` file holds its signature as one more entry; a folder and the same thing zipped have the same one.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketface.sdk.archive import unpack_all
from pocketface.sdk.bundle import Bundle, checked_manifest, open_bundle, refuse_special, temporary_folder
from pocketface.sdk.contract import SIGNATURE
from pocketface.sdk.errors import (
    BadInputError,
    BundleError,
    EnvironmentProblemError,
    MissingExtraError,
    PocketfaceError,
    SignatureError,
)
from pocketface.sdk.files import os_problem, write_atomic
from pocketface.sdk.limits import MAX_ENTRIES, MAX_SIGNATURE_BYTES, MAX_TOTAL_BYTES
from pocketface.sdk.shipped import bundle_path

_DISTRUST = "Do not trust this bundle; fetch it again from where it was signed"


@dataclass(frozen=True)
class PrivateKey:
    """Signs with an elliptic-curve key (P-256, P-384 or P-521): a PEM file, perhaps with a password."""

    path: Path
    password: str | None = None


@dataclass(frozen=True)
class PublicKey:
    """Verifies with an elliptic-curve key: a PEM file."""

    path: Path


@dataclass(frozen=True)
class Keyless:
    """Signs as the identity that this machine has (in CI), that a token states, or that logs in with a browser.

    Attributes:
        token: an OpenID Connect token; None takes the machine's own, or asks in a browser.
        staging: Sigstore's instance for trying things out.
        trust_config: file that describes a Sigstore instance of one's own.
    """

    token: str | None = None
    staging: bool = False
    trust_config: Path | None = None


@dataclass(frozen=True)
class Identity:
    """Verifies who signed without a key.

    Attributes:
        name: e.g. a mail address, or the URL of a CI workflow.
        issuer: URL of the OpenID Connect provider that vouched for it.
        staging, trust_config: as of `Keyless`.
    """

    name: str
    issuer: str
    staging: bool = False
    trust_config: Path | None = None


def sign_bundle(
    path: str | os.PathLike[str],
    signer: PrivateKey | Keyless,
    *,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Path:
    """Sign a bundle, once everything that ``open_bundle`` checks is right.

    Args:
        path: its folder, or its ``.pface`` file.
        signer: how.
        out: where the signed ``.pface`` file goes; a folder is signed where it is.
        force: replace a signature, or the file ``out``.

    Returns:
        The signature of a folder, or the signed ``.pface`` file.

    Raises:
        BadInputError: not a usable key, a signature that is there already, or a place that is taken.
        BundleError: the bundle is not right.
        MissingExtraError: model-signing is not installed.
        EnvironmentProblemError: Sigstore cannot be reached, or nothing can be written.
    """
    package = _package()
    path = bundle_path(path)
    zipped = not path.is_dir()
    if not zipped and out is not None:
        raise BadInputError(f"--out {out} for a folder", expected="a .pface file, or no --out", next="Leave --out away")
    if zipped and out is None and not force:
        raise BadInputError(
            f"{path} would be written anew", next="Name the signed file with --out, or add --force to replace this one"
        )
    with open_bundle(path) as bundle:  # a wrong one is refused before anybody is asked for a key
        if bundle.signature is not None and not force:
            raise BadInputError(f"{path} is signed already", next="Add --force to sign it anew")
    with _unpacked(path) as root, tempfile.TemporaryDirectory(prefix="pocketface-") as folder:
        made = Path(folder) / SIGNATURE
        _sign(package, signer, root, made)
        signature = made.read_bytes()
    if not zipped:
        write_atomic(path / SIGNATURE, signature, force=force)
        return path / SIGNATURE
    target = path if out is None else Path(out)
    write_atomic(target, _with_signature(path, signature), force=force)
    return target


def verify_signature(path: str | os.PathLike[str], verifier: PublicKey | Identity) -> dict[str, str]:
    """Verify the signature of a bundle; nothing else of it is read, apart from the bytes that are hashed.

    Args:
        path: its folder, or its ``.pface`` file.
        verifier: who should have signed it.

    Returns:
        Path -> SHA-256 in hex, of every file that was signed.

    Raises:
        SignatureError: not signed; signed by somebody else; a file was changed, added or removed.
        BadInputError: not a usable key.
        BundleError: a link, a special file, or too much of anything.
        MissingExtraError: model-signing is not installed.
        EnvironmentProblemError: Sigstore cannot be reached.
    """
    package = _package()
    with _unpacked(bundle_path(path)) as root:
        return _verified(package, root, verifier, str(path))


def open_signed(path: str | os.PathLike[str], verifier: PublicKey | Identity) -> Bundle:
    """Verify the signature, and only then open the bundle; what is used later is what was signed.

    Args:
        path: its folder, or its ``.pface`` file.
        verifier: who should have signed it.

    Raises:
        PocketfaceError: see ``verify_signature`` and ``open_bundle``; also a SignatureError, if the signature leaves
            out files that the manifest lists.
    """
    package = _package()
    path = bundle_path(path)
    refuse_special(path)
    if path.is_dir():
        return Bundle(checked_manifest(path, _verified(package, path, verifier, str(path))), path)
    temporary = temporary_folder()
    try:
        root = Path(temporary.name)
        unpack_all(path, root)
        return Bundle(checked_manifest(root, _verified(package, root, verifier, str(path))), root, temporary)
    except BaseException:
        temporary.cleanup()
        raise


def _package() -> Any:
    try:
        import model_signing
        import model_signing.hashing
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        raise MissingExtraError("signing", "sign", str(error)) from error
    return model_signing


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The bundle's folder; of a ``.pface`` file, a temporary one with all that it holds."""
    refuse_special(path)
    if path.is_dir():
        yield path
        return
    with temporary_folder() as folder:
        unpack_all(path, Path(folder))
        yield Path(folder)


def _survey(root: Path) -> None:
    """Refuse what cannot be hashed, or would never end, before the package walks through the folder."""
    count = total = 0
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            full = Path(folder) / name
            try:
                found = full.lstat()
            except OSError as error:
                raise os_problem(error, full, "read") from error
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                where = full.relative_to(root).as_posix()
                raise BundleError(f"{where} is a link or no plain file", expected="plain files", next=_DISTRUST)
            count, total = count + 1, total + (found.st_size if stat.S_ISREG(found.st_mode) else 0)
    if count > 2 * MAX_ENTRIES or total > MAX_TOTAL_BYTES:
        raise BundleError(
            f"{root} holds {count} files and folders of {total} bytes",
            expected=f"at most {2 * MAX_ENTRIES}, of {MAX_TOTAL_BYTES} bytes",
            next=_DISTRUST,
        )


def _hashing(package: Any) -> Any:
    """Whole files by SHA-256, no links, nothing left out but the signature."""
    config = package.hashing.Config().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _sign(package: Any, signer: PrivateKey | Keyless, root: Path, signature: Path) -> None:
    _survey(root)
    config = package.signing.Config().set_hashing_config(_hashing(package))
    if isinstance(signer, PrivateKey):
        _check_key(signer.path)
        try:
            # The package hands the password on as it is, and that has to be bytes.
            password: Any = None if signer.password is None else signer.password.encode()
            config.use_elliptic_key_signer(private_key=signer.path, password=password)
        except Exception as error:  # cryptography's errors over a file that is no key have no common base
            raise _bad_key(signer.path, "a private key in PEM", error) from error
        with _quiet():
            config.sign(root, signature)
        return
    try:
        with _quiet():
            config.use_sigstore_signer(
                use_ambient_credentials=True,
                identity_token=signer.token,
                use_staging=signer.staging,
                trust_config=signer.trust_config,
            )
            config.sign(root, signature)
    except Exception as error:  # of the network, of TUF, of the provider: no common base
        raise _unreachable("sign", error) from error


def _verified(package: Any, root: Path, verifier: PublicKey | Identity, name: str) -> dict[str, str]:
    _survey(root)
    path = root / SIGNATURE
    if not path.is_file():
        raise SignatureError(
            f"{name} is not signed", expected=f"a file {SIGNATURE} in it", next="Sign it: pocketface sign BUNDLE"
        )
    if path.stat().st_size > MAX_SIGNATURE_BYTES:
        raise SignatureError(
            f"{name}: {SIGNATURE} is too large", expected=f"{MAX_SIGNATURE_BYTES} bytes", next=_DISTRUST
        )
    config = package.verifying.Config().set_hashing_config(_hashing(package))
    if isinstance(verifier, PublicKey):
        _check_key(verifier.path)
        try:
            config.use_elliptic_key_verifier(public_key=verifier.path)
        except Exception as error:
            raise _bad_key(verifier.path, "a public key in PEM", error) from error
    else:
        try:
            with _quiet():
                config.use_sigstore_verifier(
                    identity=verifier.name,
                    oidc_issuer=verifier.issuer,
                    use_staging=verifier.staging,
                    trust_config=verifier.trust_config,
                )
        except Exception as error:
            raise _unreachable("verify", error) from error
    # A copy, so that what is verified and what is read of it below are the same bytes.
    with tempfile.TemporaryDirectory(prefix="pocketface-") as folder:
        copy = Path(folder) / SIGNATURE
        shutil.copyfile(path, copy)
        try:
            with _quiet():
                config.verify(root, copy)
        except Exception as error:  # whatever the package meets in a file that is no signature, or no valid one
            raise SignatureError(
                f"{name}: the signature does not hold ({_reason(error)})",
                expected=f"this bundle, signed with the key of {verifier.path}"
                if isinstance(verifier, PublicKey)
                else f"this bundle, signed by {verifier.name}",
                next=_DISTRUST,
            ) from error
        return _signed_files(copy.read_bytes(), name)


def _signed_files(signature: bytes, name: str) -> dict[str, str]:
    """What a verified signature states: path -> SHA-256."""
    try:
        envelope = json.loads(signature)["dsseEnvelope"]
        resources = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["resources"]
        files = {item["name"]: item["digest"] for item in resources if item["algorithm"] == "sha256"}
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise SignatureError(
            f"{name} is signed in another way ({error!r})", expected="whole files by SHA-256", next="Sign it again"
        ) from error
    return files


def _check_key(path: Path) -> None:
    if not path.is_file():
        raise BadInputError(f"{path}: no such key", expected="a PEM file", next="Check the path")
    if path.stat().st_size > 2**20:
        raise BadInputError(f"{path} is no key: too large", expected="a PEM file", next="Check the path")


def _bad_key(path: Path, expected: str, error: Exception) -> PocketfaceError:
    if isinstance(error, OSError):
        return os_problem(error, path, "read")
    return BadInputError(
        f"{path} cannot be used ({_reason(error)})",
        expected=f"{expected}, of an elliptic curve: P-256, P-384 or P-521",
        next="Make one: openssl ecparam -name prime256v1 -genkey -noout -out key.pem, and openssl ec -in key.pem "
        "-pubout -out key.pub",
    )


def _unreachable(doing: str, error: Exception) -> EnvironmentProblemError:
    return EnvironmentProblemError(
        f"cannot {doing} without a key: Sigstore does not answer as it should ({_reason(error)})",
        next=f"Check the network and the identity, or {doing} with a key",
    )


def _reason(error: Exception) -> str:
    """One short line; of our own making it holds file names, which may hold anything."""
    text = " ".join((str(error) or type(error).__name__).split())
    return re.sub(r"[^ -~]", "?", text)[:300].rstrip(". ")


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """What the package prints goes where remarks belong."""
    return contextlib.redirect_stdout(sys.stderr)


def _with_signature(archive: Path, signature: bytes) -> bytes:
    """The same ``.pface`` file with this signature as its last entry."""
    with tempfile.TemporaryFile() as made:
        with zipfile.ZipFile(archive) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
            for info in old.infolist():
                if info.filename != SIGNATURE:
                    with old.open(info) as source, new.open(info, "w") as target:
                        shutil.copyfileobj(source, target)
            new.writestr(zipfile.ZipInfo(SIGNATURE, date_time=(1980, 1, 1, 0, 0, 0)), signature)
        made.seek(0)
        return made.read()
