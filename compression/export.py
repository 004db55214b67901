"""A checkpoint -> files in every format and precision asked for, each compared with torch.

Files that pass lie in the folder under their names, those that fail in its ``failed/``; export.json says how they were
made and what came out.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.compression.export_folder import ExportRow, Exports, Folder
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.pipeline.inputs import as_inputs, network_inputs, reference_truth
from pocketface.compression.recipe_file import yaml_value
from pocketface.compression.training.faces import thin
from pocketface.compression.variants import calibrated, check_settings, exported_precisions, make, settings_for
from pocketface.compression.variants import precisions as every_precision
from pocketface.converters import networks, parity, reference
from pocketface.converters.examine import examine
from pocketface.converters.formats.base import ConversionError, Exported
from pocketface.converters.golden_images import golden_images
from pocketface.converters.pixels import PixelInput
from pocketface.converters.verdict import GATES, judge
from pocketface.sdk.errors import BadInputError, ConfigError
from pocketface.sdk.files import sha256
from pocketface.sdk.geometry import Crop
from pocketface.sdk.manifest import Tolerances
from pocketface.sdk.preprocess import resample
from pocketface.sdk.schemes import SCHEMES, load_scheme

CALIBRATION_FACES, PARITY_FACES, DRAWN_FACES = 128, 64, 4


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    formats: Sequence[str],
    precisions: Sequence[str] = ("fp32",),
    pixels: bool = False,
    data: Path | None = None,
    data_format: str = "pts",
    data_folders: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda text: None,
    force: bool = False,
) -> Exports:
    """Convert a checkpoint and compare each file with torch.

    Args:
        checkpoint: a file that says which network it holds.
        out: folder for the files, ``CHECKPOINT.PRECISION.SUFFIX``.
        formats, precisions: every combination that exists is made.
        pixels: take uint8 pixels and normalise inside.
        data: annotated faces: every other one calibrates, the rest measures the NME.
        settings: ``FORMAT.key=value`` or ``FORMAT.PRECISION.key=value``.
        say: told before each variant.
        force: replace files that are there.

    Raises:
        WeightsError: the checkpoint cannot be used.
        UnknownNameError, ConfigError: an unknown format, precision or setting.
        BadInputError: a file exists, or a precision needs faces and there are none.
    """
    folder = Folder(out, checkpoint.stem)
    combinations = _combinations(formats, precisions)
    options = _settings(settings, formats)
    net = networks.load_network(checkpoint)
    if not isinstance(net, LandmarkNet):
        raise BadInputError(f"{checkpoint} holds a {type(net).__name__}", expected="a landmark network")
    blind = [f"{p} of {f}" for f, p, exists in combinations if exists and calibrated(f, p)]
    if blind and data is None:
        raise BadInputError(
            f"{', '.join(blind)} looks at faces to find the ranges of its activations",
            expected="--data",
            next="Give annotated faces; pocketface synth draws some",
        )
    done = Exports(network=checkpoint.stem, checkpoint_sha256=sha256(checkpoint), pixels=pixels)
    folder.refuse_existing([(f, p) for f, p, exists in combinations if exists], done, force)
    shipped = PixelInput(net, net.mean, net.std) if pixels else net
    faces = _faces(data, data_format, data_folders, net.n_points)
    run = reference.torch_run(shipped)
    drawn = [resample(image, Crop.from_box(box), net.input_size) for image, box in golden_images(DRAWN_FACES)]
    golden = reference.references(run, as_inputs(drawn, shipped))
    annotated = None
    if faces:
        judged = thin(faces[1::2], PARITY_FACES)
        annotated = reference.references(run, network_inputs(judged, shipped), reference_truth(judged))
    calibration = network_inputs(thin(faces[::2], CALIBRATION_FACES), shipped) if faces else None

    rows: list[ExportRow] = []
    made: dict[str, Exported | ConversionError] = {}
    finished: list[tuple[Exported, ExportRow]] = []
    folder.make()
    with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as scratch:
        for format, precision, exists in combinations:
            id = f"{precision}.{format}"
            if not exists:
                reason = f"{format} has {', '.join(every_precision(format))}"
                rows.append(ExportRow(id=id, status="absent", reason=reason))
                continue
            for kind in dict.fromkeys(("fp32", precision)):  # the others are made out of fp32
                if f"{kind}.{format}" not in made:
                    say(f"{format} {kind}")
                    made[f"{kind}.{format}"] = _made(shipped, format, kind, Path(scratch), made, calibration, options)
            found, used = made[id], dict(settings_for(format, precision, options, options) or {})
            if isinstance(found, ConversionError):
                reason = folder.keep_log(found, format, precision)
                rows.append(ExportRow(id=id, status="failed", reason=reason, settings=used))
                continue
            row = _judged(found, golden, annotated, load_scheme(_scheme(net.n_points)).normaliser)
            rows.append(msgspec.structs.replace(row, settings=used))
            finished.append((found, row))
        # Only now: the others are made out of fp32, and an interrupted run leaves nothing.
        names = {row.id: folder.put(item, failed=row.status == "failed") for item, row in finished}
    placed = tuple(msgspec.structs.replace(row, file=names.get(row.id, "")) for row in rows)
    folder.write(msgspec.structs.replace(done, rows=placed))
    return msgspec.structs.replace(done, rows=placed)


def _combinations(formats: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, str, bool]]:
    """Format, precision, and whether it exists there; a precision that exists nowhere is refused."""
    every = {name: every_precision(name) for name in formats}
    for precision in wanted:
        if not any(precision in known for known in every.values()):
            choices = sorted({kind for known in every.values() for kind in known})
            raise ConfigError(f"--precision: {', '.join(formats)} has no {precision!r}", choices=choices)
    return [(name, precision, precision in every[name]) for name in formats for precision in wanted]


def _settings(texts: tuple[str, ...], formats: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``FORMAT.key=value`` and ``FORMAT.PRECISION.key=value`` -> settings by exporter and by quantizer, checked."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        owner, _, name = key.rpartition(".")
        format, _, precision = owner.partition(".")
        if not separator or not owner:
            raise ConfigError(f"--set {text!r}", expected="FORMAT.key=value or FORMAT.PRECISION.key=value")
        if format not in formats:
            raise ConfigError(f"--set {text!r}: {format!r} is not exported to", choices=formats)
        if precision in exported_precisions(format):
            raise ConfigError(
                f"--set {text!r}", expected=f"{format}.{name}=..., one setting for all of {format}'s exports"
            )
        found.setdefault(owner, {})[name] = yaml_value(value, f"--set {text!r}")
    check_settings(
        {owner: values for owner, values in found.items() if "." not in owner},
        {owner: values for owner, values in found.items() if "." in owner},
    )
    return found


def _made(
    net: LandmarkNet | PixelInput,
    format: str,
    precision: str,
    folder: Path,
    made: Mapping[str, Exported | ConversionError],
    calibration: Any,
    options: Mapping[str, dict[str, Any]],
) -> Exported | ConversionError:
    """A variant, or why there is none; without fp32 there is none of the others."""
    fp32 = made.get(f"fp32.{format}")
    if isinstance(fp32, ConversionError):
        return fp32
    target = folder / format
    target.mkdir(exist_ok=True)
    try:
        return make(
            net,
            format,
            precision,
            target,
            input_size=net.input_size,
            fp32=fp32,
            calibration=calibration,
            options=settings_for(format, precision, options, options),
        )
    except ConversionError as error:
        return error


def _judged(
    item: Exported, golden: parity.References, annotated: parity.References | None, normaliser: tuple[int, int]
) -> ExportRow:
    """A file against torch and against its precision. Without annotated faces a rounded network cannot be judged."""
    bounds = GATES.get(item.precision, Tolerances())
    candidate = examine(item, golden=golden, faces=annotated, tolerances=bounds, normaliser=normaliser)
    result = candidate.parity
    status, reason = candidate.status, candidate.reason
    if result is not None and annotated is None and bounds.max_nme_increase is not None and not candidate.problems:
        # All but the landmarks' accuracy can be judged: broken outputs, the face score.
        rest = msgspec.structs.replace(bounds, max_nme_increase=None, max_tensor_error=math.inf)
        status, reason = judge(result, rest)
        if status == "passed":
            status, reason = "unverified", "its NME is not known without annotated faces: give --data"
    figures: dict[str, Any] = {}
    if result is not None and not result.broken:
        figures = {
            "executor": result.executor,
            "max_pixel_error": result.max_pixel_error,
            "relative_error": max(error.relative_error or 0.0 for error in result.outputs.values()),
            "nme_reference": result.nme_reference,
            "nme": result.nme,
        }
    return ExportRow(
        id=f"{item.precision}.{item.format}", status=status, reason=reason, bytes=item.total_bytes, **figures
    )


def _faces(data: Path | None, format: str, folders: tuple[str, ...], points: int) -> list[Face]:
    if data is None:
        return []
    found: list[Face] = DATASETS[format](data, folders=folders, scheme=load_scheme(_scheme(points)))
    if len(found) < 2:
        raise BadInputError(f"{data} holds {len(found)} faces", expected="at least two: to calibrate, and to measure")
    return found


def _scheme(points: int) -> str:
    """The landmark scheme that has this many points."""
    known = {load_scheme(name).points: name for name in SCHEMES}
    if points not in known:
        raise BadInputError(
            f"no landmark scheme has {points} points", choices=[str(number) for number in sorted(known)]
        )
    return known[points]
