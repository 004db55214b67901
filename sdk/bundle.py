"""Open a bundle: a folder or one ``.pface`` file. Everything is checked before any byte of it reaches a runtime.

path --unpack if zipped--> manifest.json --schema, contract--> every listed file: plain, size, SHA-256 --> Bundle
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk import contract, manifest
from pocketface.sdk.archive import unpack
from pocketface.sdk.backends.onnx_file import check_onnx
from pocketface.sdk.backends.tflite_file import check_tflite
from pocketface.sdk.errors import BadInputError, BundleError, SignatureError
from pocketface.sdk.files import os_problem
from pocketface.sdk.geometry import Box
from pocketface.sdk.golden_case import read_case
from pocketface.sdk.limits import MAX_MANIFEST_BYTES
from pocketface.sdk.manifest import FileEntry, Manifest, Stage, Variant
from pocketface.sdk.shipped import bundle_path

MAX_GOLDEN_BYTES = 256 * 2**20
"""Of one golden case, unpacked."""

_AGAIN = "Fetch or build the bundle again"

_CHECKS: dict[str, Callable[[bytes, str], None]] = {"onnx": check_onnx, "tflite": check_tflite}
"""Format -> what looks into its files before a runtime does."""


class Bundle:
    """An opened, checked bundle. Use it in a ``with`` block, or call ``close``: a zipped one lives in a temporary
    folder.

    Attributes:
        manifest: its contract.
        root: the folder that holds its files.
    """

    def __init__(
        self, manifest: Manifest, root: Path, temporary: tempfile.TemporaryDirectory[str] | None = None
    ) -> None:
        self.manifest, self.root, self._temporary = manifest, root, temporary

    def path(self, entry: FileEntry) -> Path:
        """Where a file of the bundle lies."""
        return self.root / entry.path

    def variant_path(self, variant: Variant) -> Path:
        """Where a variant lies: its file, or its folder (an ``.mlpackage``)."""
        return self.root.joinpath(*variant.files[0].path.split("/")[:2])

    @property
    def signature(self) -> Path | None:
        """The file with its signature, which says nothing until it is verified (signing.py); None if it has none."""
        path = self.root / contract.SIGNATURE
        return path if path.is_file() else None

    def golden(self) -> list[dict[str, NDArray[Any]]]:
        """The golden cases, in the manifest's order.

        Returns:
            One dict a case: ``image`` (H, W, 3) uint8, ``box`` (4,) float64, and for stage k ``stepK.input.NAME``,
            ``stepK.output.NAME`` (types and shapes of the contract). Of a landmarks stage, ``stepK.decoded.points``
            (n, 2) float32, and where it has them ``stepK.decoded.score`` () and ``stepK.decoded.pose`` (3,) float32, in
            degrees; of a relocalize stage ``stepK.decoded.box`` (4,) float64; of a uniformize stage
            ``stepK.decoded.image`` (S, S, 3) float32 in [0, 255]; of a segmentation ``stepK.decoded.probabilities``
            (C, M, M) float32 and ``stepK.decoded.labels`` (H, W) uint8, at the size of ``image``.

        Raises:
            BundleError: a case is no npz file, too large, needs pickle, holds NaN or infinity, lacks an array, or its
                box has no area or lies outside the image.
        """
        return [self._golden_case(entry) for entry in self.manifest.golden]

    def _golden_case(self, entry: FileEntry) -> dict[str, NDArray[Any]]:
        case = read_case(_read(self.root, entry), entry.path, MAX_GOLDEN_BYTES)
        for name, (shape, dtype) in self._golden_arrays().items():
            value = case.get(name)
            found = None if value is None else f"{value.dtype} {value.shape}"
            if (
                value is None
                or value.dtype != dtype
                or len(value.shape) != len(shape)
                or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True))
            ):
                expected = f"{np.dtype(dtype)} {tuple('any' if n is None else n for n in shape)}"
                raise BundleError(
                    f"{entry.path}: array {name!r} is {found or 'missing'}", expected=expected, next=_AGAIN
                )
        height, width = case["image"].shape[:2]
        if 0 in (height, width):
            raise BundleError(f"{entry.path}: its image has no pixels", expected="at least 1 x 1", next=_AGAIN)
        for name in (name for name in case if name.endswith(".decoded.labels")):
            if case[name].shape != (height, width):
                raise BundleError(
                    f"{entry.path}: array {name!r} has shape {case[name].shape}",
                    expected=f"{(height, width)}, as its image",
                    next=_AGAIN,
                )
        try:
            Box(*case["box"].tolist()).checked((width, height))
        except BadInputError as error:
            raise BundleError(f"{entry.path}: {error.what}", expected=error.expected, next=_AGAIN) from error
        return case

    def _golden_arrays(self) -> dict[str, tuple[tuple[int | None, ...], Any]]:
        wanted: dict[str, tuple[tuple[int | None, ...], Any]] = {
            "image": ((None, None, 3), np.uint8),
            "box": ((4,), np.float64),
        }
        for number, stage in enumerate(self.manifest.stages):
            for kind, specs in (("input", stage.inputs), ("output", stage.outputs)):
                wanted |= {f"step{number}.{kind}.{spec.name}": (spec.shape, np.dtype(spec.dtype)) for spec in specs}
            wanted |= {f"step{number}.decoded.{name}": value for name, value in _decoded(stage).items()}
        return wanted

    def close(self) -> None:
        """Remove the temporary folder of a zipped bundle; a folder stays as it is."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _decoded(stage: Stage) -> dict[str, tuple[tuple[int | None, ...], Any]]:
    """Shape and type of what a stage's outputs decode to."""
    if stage.task == "relocalize":
        return {"box": ((4,), np.float64)}
    if stage.task == "uniformize":
        return {"image": ((stage.preprocess.size, stage.preprocess.size, 3), np.float32)}
    if stage.task == "detection":
        return {"faces": ((None, 6), np.float64)}
    if stage.task == "segmentation":
        return {
            "probabilities": (stage.outputs[0].shape[1:], np.float32),
            "labels": ((None, None), np.uint8),
        }
    wanted: dict[str, tuple[tuple[int | None, ...], Any]] = {"points": ((stage.marks.points, 2), np.float32)}
    kinds = {spec.decode for spec in stage.outputs}
    if "face_logit" in kinds:
        wanted["score"] = ((), np.float32)
    if "head_pose" in kinds:
        wanted["pose"] = ((3,), np.float32)
    return wanted


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open and check a bundle.

    Args:
        path: its folder, its ``.pface`` file, or the name of one that comes with the package (``pocketface models``);
            what lies here under that name goes first.

    Raises:
        BundleError: there is none; its schema is unknown; its manifest contradicts itself; a file is missing, altered,
            a link, not listed, or would leave the folder; an ONNX file refers to other files; an ONNX or TFLite file
            holds a constant that is NaN or infinite.
        EnvironmentProblemError: it cannot be read, or the disk is too full to unpack it.
    """
    path = Path(path)
    try:
        path = bundle_path(path)
        if path.is_dir():
            return Bundle(checked_manifest(path), path)
    except OSError as error:
        raise os_problem(error, path, "read") from error
    refuse_special(path)
    temporary = temporary_folder()
    try:
        unpack(path, Path(temporary.name))
        return Bundle(checked_manifest(Path(temporary.name)), Path(temporary.name), temporary)
    except BaseException:
        temporary.cleanup()
        raise


def refuse_special(path: Path) -> None:
    """Refuse a bundle that is not there, or is neither a folder nor a plain file.

    Raises:
        BundleError: saying which.
    """
    if not path.exists():
        raise BundleError(f"{path}: no such bundle", expected="a bundle folder or a .pface file", next="Check the path")
    if not path.is_file() and not path.is_dir():  # a pipe would be waited for, a device never ends
        raise BundleError(
            f"{path} is a pipe or a device", expected="a bundle folder or a .pface file", next="Save it to a file first"
        )


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Where a zipped bundle is unpacked.

    Raises:
        EnvironmentProblemError: there is no place for it.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="pocketface-", ignore_cleanup_errors=True)
    except OSError as error:
        raise os_problem(error, tempfile.gettempdir(), "unpack") from error


def checked_manifest(root: Path, signed: Mapping[str, str] | None = None) -> Manifest:
    """The manifest of an unpacked bundle, once everything of it has been checked.

    Args:
        root: its folder.
        signed: path -> SHA-256 in hex, of a verified signature: manifest.json and every listed file must be among them,
            with that hash. So what is used is what was signed, even if a file changes after the verification.

    Raises:
        BundleError: see ``open_bundle``.
        SignatureError: a file is not among those signed, or is another.
    """
    if not (root / "manifest.json").is_file():
        inner = root / "bundle" / "manifest.json"
        hint = f"Did you mean {inner.parent}?" if inner.is_file() else "Name the folder that holds it"
        raise BundleError(f"{root} holds no manifest.json, so it is no bundle", next=hint)
    with _opened(root, "manifest.json") as descriptor:
        data = _read_all(descriptor, MAX_MANIFEST_BYTES)
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError("manifest.json is too large", expected=f"at most {MAX_MANIFEST_BYTES} bytes", next=_AGAIN)
    if signed is not None:
        _check_signed("manifest.json", hashlib.sha256(data).hexdigest(), signed)
    contents = manifest.decode(data)
    contract.check_manifest(contents)
    for entry in contract.files(contents) if signed is not None else ():
        _check_signed(entry.path, entry.sha256, signed)
    if (root / contract.SIGNATURE).is_symlink():
        raise _link(contract.SIGNATURE)
    _refuse_unlisted(root, {entry.path for entry in contract.files(contents)})
    checks = {
        file.path: _CHECKS[item.format]
        for stage in contents.stages
        for item in stage.variants
        if item.format in _CHECKS
        for file in item.files
    }
    for entry in contract.files(contents):
        if entry.path in checks:
            checks[entry.path](_read(root, entry), entry.path)
        else:
            _read(root, entry, keep=False)
    return contents


def _check_signed(path: str, sha256: str, signed: Mapping[str, str] | None) -> None:
    if signed is not None and signed.get(path) != sha256:
        raise SignatureError(
            f"{path} is not what was signed",
            expected=f"SHA-256 {signed.get(path, 'of a signed file, of which it is none')}",
            next="Do not trust this bundle; fetch it again from where it was signed",
        )


def _refuse_unlisted(root: Path, listed: set[str]) -> None:
    """A file that the manifest does not list could be picked up by a runtime that opens a folder."""
    for top in ("models", "golden"):
        for folder, folders, names in os.walk(root / top):
            for name in (*folders, *names):
                full = Path(folder) / name
                path = full.relative_to(root).as_posix()
                if full.is_symlink():
                    raise _link(path)
                if name in names and path not in listed:
                    raise BundleError(
                        f"{path} is not listed in manifest.json", next="Delete it, or build the bundle again"
                    )


def _read(root: Path, entry: FileEntry, *, keep: bool = True) -> bytes:
    """The bytes of a listed file; nothing of them unless they are to be kept.

    Raises:
        BundleError: missing, a link, no plain file, or of another size or hash than listed.
    """
    with _opened(root, entry.path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size != entry.bytes:
            raise BundleError(f"{entry.path} has {size} bytes", expected=f"{entry.bytes}", next=_AGAIN)
        # One byte more than there should be, so that a file that grew is noticed.
        data, digest, left = bytearray(), hashlib.sha256(), entry.bytes + 1
        with open(descriptor, "rb", closefd=False) as file:
            while left > 0 and (chunk := file.read(min(left, 2**20))):
                left -= len(chunk)
                digest.update(chunk)
                if keep:
                    data += chunk
    found = digest.hexdigest()
    if found != entry.sha256:
        raise BundleError(f"{entry.path} has SHA-256 {found[:16]}…", expected=f"{entry.sha256[:16]}…", next=_AGAIN)
    return bytes(data)


@contextlib.contextmanager
def _opened(root: Path, path: str) -> Iterator[int]:
    """A descriptor of a plain file; links are refused in every part of the path below the root."""
    full = root
    for part in path.split("/"):
        full = full / part
        if full.is_symlink():
            raise _link(path)
    # Not blocking: a pipe would otherwise be waited for before it can be refused.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(full, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{path} is missing", expected="the file that manifest.json lists", next=_AGAIN) from error
    except OSError as error:
        raise os_problem(error, full, "read") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BundleError(f"{path} is no plain file", next=_AGAIN)
        yield descriptor
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, limit: int) -> bytes:
    """At most ``limit`` + 1 bytes, so that a file that grew is noticed and never fills the memory."""
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(limit + 1)


def _link(path: str) -> BundleError:
    return BundleError(
        f"{path} is a link", expected="plain files", next="Do not trust this bundle; fetch or build it again"
    )
