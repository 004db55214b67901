"""Unpack a ``.pface`` file (a zipped bundle) into a folder, taking only what its manifest lists."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path

from pocketface.sdk import contract, manifest
from pocketface.sdk.errors import BundleError
from pocketface.sdk.files import os_problem

MAX_MANIFEST_BYTES = 8 * 2**20
MAX_TOTAL_BYTES = 4 * 2**30
MAX_ENTRIES = 10_000
MAX_RATIO = 200
"""Of a file over 1 MB, unpacked over packed; weights pack to little less than themselves."""

_REPEAT = "Do not trust this bundle; fetch or build it again"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack manifest.json and the files it lists.

    Args:
        archive: the ``.pface`` file.
        folder: an empty folder.

    Raises:
        BundleError: not a zip file; a path that leaves the folder, a link, a duplicate, an encrypted or oversized
            entry; a listed file that is missing or has another size; files under models/ or golden/ that the manifest
            does not list.
        EnvironmentProblemError: the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            _unpack(opened, archive, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise BundleError(f"{archive} is no complete bundle ({error})", next="Fetch or build it again") from error
    except OSError as error:
        raise os_problem(error, archive, "unpack") from error


def _unpack(opened: zipfile.ZipFile, archive: Path, folder: Path) -> None:
    entries = _checked_entries(opened, archive)
    if "manifest.json" not in entries:
        raise BundleError(
            f"{archive} holds no manifest.json at its top", next="Zip the bundle folder's content, not the folder"
        )
    if entries["manifest.json"].file_size > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{archive}: manifest.json is too large", expected=f"at most {MAX_MANIFEST_BYTES} bytes", next=_REPEAT
        )
    _write(opened, entries["manifest.json"], folder / "manifest.json")
    contents = manifest.decode((folder / "manifest.json").read_bytes())
    contract.check_manifest(contents)
    listed = {entry.path: entry for entry in contract.files(contents)}
    if sum(entry.bytes for entry in listed.values()) > MAX_TOTAL_BYTES:
        raise BundleError(f"{archive} is too large", expected=f"at most {MAX_TOTAL_BYTES} bytes unpacked", next=_REPEAT)
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
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(opened, entries[path], target)


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
    left = info.file_size
    with opened.open(info) as source, open(target, "xb") as file:
        while chunk := source.read(min(left + 1, 2**20)):
            left -= len(chunk)
            if left < 0:
                raise BundleError(f"{info.filename} unpacks to more bytes than it declares", next=_REPEAT)
            file.write(chunk)
