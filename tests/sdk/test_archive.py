import errno
import os
import stat
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import edit_manifest, make_bundle, replace_file, zip_bundle

from pocketface.sdk import archive
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BundleError, EnvironmentProblemError

MODEL = "models/tiny.fp32.onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", size=16, points=4, variants=("fp32.onnx", "fp16.coreml"))


@pytest.fixture(autouse=True)
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where bundles are unpacked; must be empty again after every test."""
    place = tmp_path / "unpacked"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def write(path: Path, folder: Path, extra: dict[str, bytes] | None = None, *, skip: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            if file.is_file() and name not in skip:
                made.write(file, name)
        for name, data in (extra or {}).items():
            made.writestr(name, data)
    return path


def refused(path: Path, message: str, unpacked: Path) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(BundleError, match=message):
            open_bundle(path)
    assert list(unpacked.iterdir()) == []
    assert seen == []  # removed by us, not by the garbage collector


def test_the_same_bundle_as_one_file(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    with open_bundle(zip_bundle(folder, tmp_path / "a.pface")) as zipped, open_bundle(folder) as plain:
        assert zipped.manifest == plain.manifest
        assert zipped.root.parent == unpacked
        assert (zipped.root / MODEL).read_bytes() == (folder / MODEL).read_bytes()
        assert len(zipped.golden()) == 2
    assert list(unpacked.iterdir()) == []


def test_folders_as_entries_and_other_files_are_fine_and_not_unpacked(folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pface", folder, {"models/": b"", "report.html": b"<html>"})
    with open_bundle(path) as bundle:
        assert not (bundle.root / "report.html").exists()


def test_dropping_an_unclosed_bundle_removes_its_folder(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    bundle = open_bundle(zip_bundle(folder, tmp_path / "a.pface"))
    assert len(list(unpacked.iterdir())) == 1
    with pytest.warns(ResourceWarning, match="Implicitly cleaning up"):
        del bundle
    assert list(unpacked.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"not a zip file", b"PK\x03\x04" + bytes(50)])
def test_no_zip_file(tmp_path: Path, unpacked: Path, data: bytes) -> None:
    (tmp_path / "a.pface").write_bytes(data)
    refused(tmp_path / "a.pface", "a.pface is no complete bundle", unpacked)


def test_truncated_anywhere(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    data = zip_bundle(folder, tmp_path / "a.pface").read_bytes()
    for share in np.linspace(0.01, 0.999, 12):
        (tmp_path / "b.pface").write_bytes(data[: int(len(data) * share)])
        refused(tmp_path / "b.pface", "b.pface is no complete bundle", unpacked)


def test_damaged_anywhere_is_a_bundle_error_or_harmless(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    data = zip_bundle(folder, tmp_path / "a.pface").read_bytes()
    rng = np.random.default_rng(0)
    stopped = 0
    for _ in range(60):
        damaged = bytearray(data)
        damaged[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
        (tmp_path / "b.pface").write_bytes(damaged)
        try:
            with open_bundle(tmp_path / "b.pface") as bundle:
                assert (bundle.root / MODEL).read_bytes() == (folder / MODEL).read_bytes()
        except BundleError:
            stopped += 1
        assert list(unpacked.iterdir()) == []
    assert stopped > 40


def test_no_manifest_at_the_top(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    path = tmp_path / "a.pface"
    with zipfile.ZipFile(path, "w") as made:
        made.write(folder / "manifest.json", "bundle/manifest.json")
    refused(path, "no manifest.json at its top.*Zip the bundle folder's content", unpacked)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "models/../../evil", "a\\..\\evil", "C:/evil", "models//x", "x/./y"]
)
def test_names_that_leave_the_folder(folder: Path, tmp_path: Path, unpacked: Path, name: str) -> None:
    refused(write(tmp_path / "a.pface", folder, {name: b"x"}), "is not allowed in a bundle", unpacked)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
@pytest.mark.parametrize("name", ["models/x", MODEL])
def test_links_and_devices(folder: Path, tmp_path: Path, unpacked: Path, kind: int, name: str) -> None:
    path = write(tmp_path / "a.pface", folder, skip=(name,))
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(info, "/etc/passwd")
    refused(path, f"{name} is a link or a device", unpacked)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [MODEL, MODEL.upper(), "manifest.json"])
def test_duplicates(folder: Path, tmp_path: Path, unpacked: Path, name: str) -> None:
    refused(write(tmp_path / "a.pface", folder, {name: b"x"}), "more than once", unpacked)


def test_unlisted_and_missing_files(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    refused(
        write(tmp_path / "a.pface", folder, {"models/x.onnx": b""}),
        "models/x.onnx, which its manifest does not",
        unpacked,
    )
    refused(write(tmp_path / "b.pface", folder, skip=(MODEL,)), f"lacks {MODEL}", unpacked)


def test_wrong_size_and_wrong_content(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    data = (folder / MODEL).read_bytes()
    refused(
        write(tmp_path / "a.pface", folder, {MODEL: data + b"x"}, skip=(MODEL,)),
        f"a.pface: {MODEL} has .* bytes",
        unpacked,
    )
    swapped = data[:-1] + bytes([data[-1] ^ 1])
    refused(write(tmp_path / "b.pface", folder, {MODEL: swapped}, skip=(MODEL,)), f"{MODEL} has SHA-256", unpacked)


def test_a_bomb_that_the_manifest_even_lists(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    replace_file(folder, MODEL, bytes(2 * 2**20))
    refused(write(tmp_path / "a.pface", folder), "unpacks to .* at most 200 times", unpacked)


def test_a_bomb_elsewhere(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    refused(write(tmp_path / "a.pface", folder, {"notes.txt": bytes(2 * 2**20)}), "at most 200 times", unpacked)


def test_a_total_beyond_the_limit(
    folder: Path, tmp_path: Path, unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 100)
    refused(write(tmp_path / "a.pface", folder), "too large, expected at most 100 bytes unpacked", unpacked)
    monkeypatch.setattr(archive, "MAX_ENTRIES", 3)
    refused(tmp_path / "a.pface", "entries, expected at most 3", unpacked)


def test_an_entry_that_declares_less_than_it_holds(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    # The size in both headers is patched to that of the manifest's lie; zipfile then sees a wrong checksum.
    path = write(tmp_path / "a.pface", folder, {"models/x": b""}, skip=(MODEL,))
    real = (folder / MODEL).read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.name != "manifest.json":
                made.write(file, file.relative_to(folder).as_posix())
        edit_manifest(folder, lambda raw: raw["stages"][0]["variants"][0]["files"][0].update(bytes=10))
        made.write(folder / "manifest.json", "manifest.json")
    size = len(real).to_bytes(4, "little")
    data = path.read_bytes()
    assert data.count(size) >= 2
    path.write_bytes(data.replace(size, (10).to_bytes(4, "little")))
    refused(path, "no complete bundle|SHA-256|more bytes", unpacked)


@pytest.mark.parametrize("flag", [1])
def test_encrypted(folder: Path, tmp_path: Path, unpacked: Path, flag: int) -> None:
    path = write(tmp_path / "a.pface", folder)
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")  # the central directory's first entry: flags are 8 bytes on
    data[start + 8] |= flag
    path.write_bytes(data)
    refused(path, "encrypted or packed in another way", unpacked)


def test_other_packings(folder: Path, tmp_path: Path, unpacked: Path) -> None:
    path = write(tmp_path / "a.pface", folder)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as made:
        made.writestr("notes.txt", b"x")
    refused(path, "packed in another way", unpacked)


def test_a_huge_manifest(folder: Path, tmp_path: Path, unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MANIFEST_BYTES", 999)
    noise = bytes(np.random.default_rng(0).integers(32, 127, 1000, np.uint8))
    path = write(tmp_path / "a.pface", folder, {"manifest.json": noise}, skip=("manifest.json",))
    refused(path, "manifest.json is too large", unpacked)


def test_a_full_disk(folder: Path, tmp_path: Path, unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = zip_bundle(folder, tmp_path / "a.pface")
    monkeypatch.setattr(archive, "_write", full)
    with pytest.raises(EnvironmentProblemError, match="cannot unpack, the disk is full"):
        open_bundle(path)
    assert list(unpacked.iterdir()) == []
