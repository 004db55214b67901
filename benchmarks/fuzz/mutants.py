"""Ways to break a bundle. Each is f(bundle, random numbers): the same seed and number give the same mutant.

A bundle is a dict of its files; a mutant is one too, of a folder, or the bytes of a ``.pface`` file.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Files = dict[str, bytes]
Random = np.random.Generator

LINK, FOLDER, PIPE = b"\0link", b"\0folder", b"\0pipe"
"""Contents that stand for something else than a file."""

NUMBERS = (
    *(-1, 0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**64 - 1),
    *(1e308, -1e308, 1e-308, 0.5, -0.0),
)
TEXTS = (
    *(
        "",
        "..",
        "../x",
        "/etc/passwd",
        "a\\b",
        "C:/x",
        "models/../../x",
        "\x1b[2J",
        "\x00",
        "x" * 5000,
        "\u202e",
        "CON",
    ),
    *("models/tiny.fp32.onnx", "golden/000.npz", "manifest.json", "model.sig", "uint8", "NHWC", "[red]", "é", "é"),
)


@dataclass(frozen=True)
class Mutant:
    """One broken bundle.

    Attributes:
        kind: how it was broken.
        files: of a folder; None for a ``.pface`` file.
        packed: of a ``.pface`` file; empty for a folder.
    """

    kind: str
    files: Files | None = None
    packed: bytes = b""


def kind_of(number: int, mended: Sequence[str] = ()) -> str:
    """How the mutant of this number is broken."""
    return "content, hash mended" if mended else list(KINDS)[number % len(KINDS)]


def mutant(files: Files, seed: int, number: int, *, mended: Sequence[str] = ()) -> Mutant:
    """The mutant of this number.

    Args:
        files: of the bundle that is broken.
        seed, number: which mutant; equal ones give equal mutants.
        mended: break the content of one of these files, models or golden cases, and mend its hash in the manifest, so
            that what reads the content gets to see it.
    """
    random = np.random.default_rng([seed, number])
    kind = kind_of(number, mended)
    made = _mended(files, mended, random) if mended else KINDS[kind](files, random)
    return Mutant(kind, packed=made) if isinstance(made, bytes) else Mutant(kind, made)


def flipped(data: bytes, random: Random) -> bytes:
    """One to eight bytes of it become others; now and then they are extremes."""
    if not data:
        return bytes(random.integers(0, 256, 3, np.uint8))
    changed = bytearray(data)
    for position in random.integers(0, len(data), random.integers(1, 9)):
        old = changed[position]
        changed[position] = int(random.choice([random.integers(0, 256), 0, 255, old ^ (1 << random.integers(0, 8))]))
    return bytes(changed)


def cut(data: bytes, random: Random) -> bytes:
    """Broken off, or with a piece missing."""
    first, last = sorted(random.integers(0, len(data) + 1, 2).tolist())
    return data[:first] if random.random() < 0.5 else data[:first] + data[last:]


def spliced(data: bytes, random: Random) -> bytes:
    """A piece of it stands a second time, somewhere."""
    first, last = sorted(random.integers(0, len(data) + 1, 2).tolist())
    place = int(random.integers(0, len(data) + 1))
    return data[:place] + data[first : min(last, first + 4096)] + data[place:]


_BYTES = (flipped, flipped, cut, spliced)


def _pick(items: Any, random: Random) -> Any:
    items = list(items)
    return items[int(random.integers(0, len(items)))]


def _broken(data: bytes, random: Random) -> bytes:
    return bytes(_pick(_BYTES, random)(data, random))


def _file(files: Files, random: Random) -> Files:
    name = _pick(files, random)
    return {**files, name: _broken(files[name], random)}


def _manifest_bytes(files: Files, random: Random) -> Files:
    return {**files, "manifest.json": _broken(files["manifest.json"], random)}


def _tree(files: Files, random: Random) -> Files:
    """Files that are missing, too many, called otherwise, or no files."""
    name, other = _pick(files, random), _pick(files, random)
    left = {key: value for key, value in files.items() if key != name}
    extra = _pick(("models/x.onnx", "golden/9.npz", "x", "models/a/b/c", ".x", "model.sig", "Manifest.json"), random)
    return _pick(
        (
            left,
            {**left, f"{name}x": files[name]},
            {**files, extra: files[name]},
            {**left, name: LINK},
            {**left, name: FOLDER},
            {**left, name: PIPE},
            {**files, extra: LINK},
            {**files, name: files[other], other: files[name]},
        ),
        random,
    )


def _nodes(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.append((value, key))
        _nodes(item, found)
    return found


def _manifest_values(files: Files, random: Random) -> Files:
    """One to three values of the manifest become others; it stays JSON."""
    raw = json.loads(files["manifest.json"])
    for _ in range(int(random.integers(1, 4))):
        nodes = _nodes(raw, [])
        if not nodes:
            break
        holder, key = _pick(nodes, random)
        old, (other, place) = holder[key], _pick(nodes, random)
        choice = int(random.integers(0, 10))
        if choice == 0:
            del holder[key]
        elif choice == 1 and isinstance(holder, dict):
            holder[_pick(TEXTS, random)] = old
        elif choice == 2 and isinstance(holder, list):
            holder += [old] * int(_pick((1, 2, 300), random))
        elif choice == 3 and not isinstance(other[place], dict | list):  # never a value into itself
            holder[key] = other[place]
        elif choice in (4, 5, 6) and isinstance(old, int | float):
            holder[key] = _pick((*NUMBERS, old + 1, old - 1, old * 2, -old, float(old)), random)
        elif choice in (4, 5, 6) and isinstance(old, str):
            holder[key] = _pick((*TEXTS, old + "x", old[:-1], old.upper(), old[::-1]), random)
        else:
            holder[key] = _pick((None, True, [], {}, "", 0, *NUMBERS, *TEXTS, [[[]]], {"a": {}}), random)
    return {**files, "manifest.json": json.dumps(raw).encode("utf-8", "surrogatepass")}


def _manifest_text(files: Files, random: Random) -> Files:
    """Numbers and literals that JSON has not, or hardly; deep nesting."""
    text = files["manifest.json"].decode()
    digits = [place for place, character in enumerate(text) if character.isdigit()]
    place = int(_pick(digits, random))
    new = _pick(
        (
            "NaN",
            "Infinity",
            "-Infinity",
            "1e999",
            "-1e400",
            "9" * 400,
            "1e-999",
            "0x1",
            "[" * 5000,
            '{"a":' * 3000,
            "null",
        ),
        random,
    )
    return {**files, "manifest.json": (text[:place] + new + text[place + 1 :]).encode()}


def zipped(files: Files, *, changes: Callable[[zipfile.ZipInfo], None] | None = None) -> bytes:
    """The bundle as a ``.pface`` file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if changes is not None:
                changes(info)
            archive.writestr(info, data)
    return made.getvalue()


def _pface_bytes(files: Files, random: Random) -> bytes:
    return _broken(zipped(files), random)


def _pface_files(files: Files, random: Random) -> bytes:
    """What is wrong with a folder, in a zip file."""
    broken = _pick((_file, _tree, _manifest_values, _manifest_text), random)(files, random)
    return zipped({name: data for name, data in broken.items() if data not in (LINK, FOLDER, PIPE)})


# signature -> offsets and sizes of the fields of a zip file's headers (APPNOTE 4.3).
_HEADERS = {
    b"PK\x03\x04": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\x01\x02": ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (38, 4), (42, 4)),
    b"PK\x05\x06": ((4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
}


def _pface_fields(files: Files, random: Random) -> bytes:
    """Fields of a zip file's headers become extremes: sizes, offsets, flags, lengths of names, file types."""
    data = bytearray(zipped(files))
    places = []
    for mark, fields in _HEADERS.items():
        start = data.find(mark)
        while start >= 0:
            places += [(start + offset, size) for offset, size in fields]
            start = data.find(mark, start + 4)
    for _ in range(int(random.integers(1, 4))):
        place, size = _pick(places, random)
        old = int.from_bytes(data[place : place + size], "little")
        top = 256**size - 1
        new = int(
            _pick((0, 1, 2, 8, 9, 12, 14, 99, top, top // 2, old + 1, old - 1, old ^ 1, old * 2, 0xA1FF0000), random)
        )
        data[place : place + size] = (new & top).to_bytes(size, "little")
    return bytes(data)


def _pface_names(files: Files, random: Random) -> bytes:
    """Entries that want to be elsewhere: names that leave the folder, links, devices."""
    name = _pick(files, random)
    new = _pick((*TEXTS[1:], name + "/", name + "/x", "./" + name, name.upper(), "evil\x00.png"), random).replace(
        "\x00", ""
    )
    kind = int(_pick((0, stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR, stat.S_IFCHR), random))

    def change(info: zipfile.ZipInfo) -> None:
        if info.filename == name:
            info.external_attr = (kind | 0o777) << 16

    renamed = random.random() < 0.7
    more = {**files, new or "y": b"../../../../tmp/evil"} if renamed else files
    return zipped(more, changes=None if renamed and random.random() < 0.5 else change)


def _pface_bombs(files: Files, random: Random) -> bytes:
    """Much from little: zeros by the megabyte, lies about sizes, entries that share one stream, endless entries."""
    choice = int(random.integers(0, 4))
    name = _pick(files, random)
    if choice == 0:
        return zipped({**files, name: bytes(int(random.integers(2, 12)) * 2**20)})
    if choice == 1:
        count = 10_010 if random.random() < 0.02 else int(random.integers(1, 100))  # they take a second to make
        return zipped({**files, **{f"extra/{number}": b"" for number in range(count)}})
    data = bytearray(zipped(files))
    starts, start = [], data.find(b"PK\x01\x02")
    while start >= 0:
        starts.append(start)
        start = data.find(b"PK\x01\x02", start + 4)
    if choice == 2:  # every entry is the first one's stream
        first = data[starts[0] + 42 : starts[0] + 46]
        for start in starts:
            data[start + 42 : start + 46] = first
        return bytes(data)
    end = data.rfind(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<I", int(_pick((0, 2**31, 2**32 - 1, len(data)), random)))
    return bytes(data)


def mended(files: Files, name: str, data: bytes) -> Files:
    """The bundle with this content, and a manifest that says so."""
    raw = json.loads(files["manifest.json"])
    new = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for holder, key in _nodes(raw, []):
        if key == "path" and holder[key] == name:
            holder.update(new)
    return {**files, name: data, "manifest.json": json.dumps(raw).encode()}


def _mended(files: Files, names: Sequence[str], random: Random) -> Files:
    name = _pick(names, random)
    data = files[name]
    if name.endswith(".npz") and random.random() < 0.7:  # below the zip file's checksums
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = {entry: archive.read(entry) for entry in archive.namelist()}
        entry = _pick(arrays, random)
        head = arrays[entry][: 128 if random.random() < 0.7 else None]
        arrays[entry] = _broken(head, random) + arrays[entry][len(head) :]
        return mended(files, name, zipped(arrays))
    return mended(files, name, _broken(data, random))


KINDS: dict[str, Callable[[Files, Random], Files | bytes]] = {
    "bytes of a file": _file,
    "bytes of the manifest": _manifest_bytes,
    "values of the manifest": _manifest_values,
    "values of the manifest, again": _manifest_values,
    "text of the manifest": _manifest_text,
    "files missing, added, no files": _tree,
    "pface: bytes": _pface_bytes,
    "pface: header fields": _pface_fields,
    "pface: names and kinds of entries": _pface_names,
    "pface: a broken bundle": _pface_files,
    "pface: bombs": _pface_bombs,
}
"""What is done, in turn."""
