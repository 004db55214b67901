"""Unpack a ``.pface`` file (a zipped bundle) into a folder: only what its manifest lists; or, where a signature is to
be verified before anything of it is believed, everything.
"""

from __future__ import annotations

import contextlib
import errno
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from pocketface.sdk import contract, manifest
from pocketface.sdk.contract import MANIFEST, SIGNATURE
from pocketface.sdk.errors import BundleError
from pocketface.sdk.files import os_problem
from pocketface.sdk.limits import MAX_ENTRIES, MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES, MAX_TOTAL_BYTES

MAX_RATIO = 200
"""Of a file over 1 MB, unpacked over packed; weights pack to little less than themselves."""

MAX_DIRECTORY_BYTES = 8 * 2**20
"""Of a zip file's own table of contents, which is read as a whole: far more than ``MAX_ENTRIES`` entries need."""

_REPEAT = "Do not trust this bundle; fetch or build it again"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack manifest.json, the files it lists, and the signature, if there is one.

    Args:
        archive: the ``.pface`` file.
        folder: an empty folder.

    Raises:
        BundleError: not a zip file; a path that leaves the folder, a link, a duplicate, an encrypted or oversized
            entry; a listed file that is missing or has another size; files under models/ or golden/ that the manifest
            does not list.
        EnvironmentProblemError: the disk is full.
    """
    with _reading(archive) as opened:
        _unpack(opened, archive, folder)


def unpack_all(archive: Path, folder: Path) -> None:
    """Unpack every entry; nothing of the bundle is interpreted, not even its manifest.

    Args:
        archive: the ``.pface`` file.
        folder: an empty folder.

    Raises:
        BundleError: not a zip file; a path that leaves the folder, a link, a duplicate, an encrypted or oversized
            entry; more than ``MAX_TOTAL_BYTES`` unpacked.
        EnvironmentProblemError: the disk is full.
    """
    with _reading(archive) as opened:
        entries = _checked_entries(opened, archive)
        if sum(info.file_size for info in entries.values()) > MAX_TOTAL_BYTES:
            raise _too_large(archive)
        for path, info in entries.items():
            _write(opened, info, folder / path)


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The zip file; what is wrong with it becomes our own errors.

    zipfile raises more than it says: a damaged length asks for a seek to before the file, a damaged extra field cannot
    be unpacked, a damaged flag calls for a password or for another way of packing.
    """
    try:
        _check_directory(archive)
        with zipfile.ZipFile(archive) as opened:
            yield opened
    except OSError as error:
        # A seek to nowhere is the file's fault, anything else the machine's.
        if error.errno not in (None, errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR):
            raise os_problem(error, archive, "unpack") from error
        raise _incomplete(archive, error) from error
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError),
        *(ValueError, OverflowError, IndexError, KeyError),
    ) as error:
        raise _incomplete(archive, error) from error


def _check_directory(archive: Path) -> None:
    """Refuse a table of contents that would fill the memory, before it is read: zipfile believes its size."""
    with open(archive, "rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - 2**16 - 22 - 20 - 56))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    sizes = [] if end < 0 else [int.from_bytes(tail[end + 12 : end + 16], "little")]
    wide = tail.rfind(b"PK\x06\x06")  # zip64
    if wide >= 0:
        sizes = [size for size in sizes if size != 0xFFFFFFFF]
        sizes.append(int.from_bytes(tail[wide + 40 : wide + 48], "little"))
    if max(sizes, default=0) > MAX_DIRECTORY_BYTES:
        raise BundleError(
            f"{archive} has a table of contents of {max(sizes)} bytes",
            expected=f"at most {MAX_DIRECTORY_BYTES}",
            next=_REPEAT,
        )


def _incomplete(archive: Path, error: Exception) -> BundleError:
    return BundleError(f"{archive} is no complete bundle ({error})", next="Fetch or build it again")


def _too_large(archive: Path) -> BundleError:
    return BundleError(f"{archive} is too large", expected=f"at most {MAX_TOTAL_BYTES} bytes unpacked", next=_REPEAT)


def _unpack(opened: zipfile.ZipFile, archive: Path, folder: Path) -> None:
    entries = _checked_entries(opened, archive)
    if MANIFEST not in entries:
        raise BundleError(
            f"{archive} holds no manifest.json at its top", next="Zip the bundle folder's content, not the folder"
        )
    if entries[MANIFEST].file_size > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{archive}: manifest.json is too large", expected=f"at most {MAX_MANIFEST_BYTES} bytes", next=_REPEAT
        )
    _write(opened, entries[MANIFEST], folder / MANIFEST)
    contents = manifest.decode((folder / MANIFEST).read_bytes())
    contract.check_manifest(contents)
    listed = {entry.path: entry for entry in contract.files(contents)}
    if sum(entry.bytes for entry in listed.values()) > MAX_TOTAL_BYTES:
        raise _too_large(archive)
    for path in entries:
        if path.startswith(("models/", "golden/")) and path not in listed:
            raise BundleError(f"{archive} holds {path}, which its manifest does not list", next=_REPEAT)
    for path, entry in listed.items():
        if path not in entries:
            raise BundleError(
                f"{archive} lacks {path}, which its manifest lists", next="Fetch or build the bundle again"
            )
        if entries[path].file_size != entry.bytes:
            raise BundleError(
                f"{archive}: {path} has {entries[path].file_size} bytes",
                expected=f"{entry.bytes}",
                next="Fetch or build the bundle again",
            )
        _write(opened, entries[path], folder / path)
    if SIGNATURE in entries:
        if entries[SIGNATURE].file_size > MAX_SIGNATURE_BYTES:
            raise BundleError(
                f"{archive}: {SIGNATURE} is too large", expected=f"at most {MAX_SIGNATURE_BYTES} bytes", next=_REPEAT
            )
        _write(opened, entries[SIGNATURE], folder / SIGNATURE)


def _checked_entries(opened: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    infos = opened.infolist()
    if len(infos) > MAX_ENTRIES:
        raise BundleError(f"{archive} has {len(infos)} entries", expected=f"at most {MAX_ENTRIES}", next=_REPEAT)
    entries: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for info in infos:
        contract.check_path(info.orig_filename.removesuffix("/"))
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BundleError(f"{archive}: {info.filename} is a link or a device", expected="plain files", next=_REPEAT)
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(
                f"{archive}: {info.filename} is encrypted or packed in another way",
                expected="stored or deflated",
                next=_REPEAT,
            )
        if info.file_size > 2**20 and info.file_size > MAX_RATIO * max(info.compress_size, 1):
            raise BundleError(
                f"{archive}: {info.filename} unpacks to {info.file_size} bytes from {info.compress_size}",
                expected=f"at most {MAX_RATIO} times as many",
                next=_REPEAT,
            )
        key = contract.path_key(info.filename.removesuffix("/"))
        if key in seen:
            raise BundleError(f"{archive} holds {info.filename} more than once", expected="once", next=_REPEAT)
        seen.add(key)
        if not info.is_dir():
            entries[info.filename] = info
    return entries


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Copy one entry; never more bytes than it declares, whatever the packed stream holds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = info.file_size
    with opened.open(info) as source, open(target, "xb") as file:
        while chunk := source.read(min(left + 1, 2**20)):
            left -= len(chunk)
            if left < 0:
                raise BundleError(f"{info.filename} unpacks to more bytes than it declares", next=_REPEAT)
            file.write(chunk)
