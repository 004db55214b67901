"""What every export format shares: the request is checked, the network copied, the file written under a temporary
name, checked and renamed.

A format's own file says how to convert (`Exporter.convert`) and how the tensors are called in the result.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pocketface.converters.chatter import chatter_to
from pocketface.converters.failures import Failure, explain
from pocketface.converters.formats.interface import INPUT, OUTPUTS, Interface, interface_of
from pocketface.converters.options import Options, configured
from pocketface.converters.signature import check_signature, read_signature
from pocketface.sdk.errors import BadInputError, PocketfaceError
from pocketface.sdk.files import os_problem
from pocketface.sdk.manifest import Binding, Format, Precision

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

__all__ = ["INPUT", "OUTPUTS", "ConversionError", "Exported", "Exporter", "Interface", "write_exported"]


class ConversionError(PocketfaceError):
    """A converter gave up, or gave a file that does not hold what it should. The cause is chained; the log has the
    rest.

    Attributes:
        failure: the operation it gave up at, where that could be found out.
        log: what the converter printed; the message ends with it.
    """

    failure: Failure | None = None
    log: Path | None = None

    def text(self, log: Path | None = None) -> str:
        """The message, with the log where it was moved to, or without it."""
        moved = "" if log is None else f" See {log}."
        return str(self) if self.log is None else str(self).replace(f" See {self.log}.", moved)


@dataclass(frozen=True)
class Exported:
    """One file (or folder) that a network was converted to.

    Attributes:
        path: where it is; a folder for ``.mlpackage``.
        format, precision: as in the manifest.
        inputs, outputs: contract name -> where to find the tensor in the file.
        quantization: how it was quantized, as the manifest keeps it; empty for plain exports.
        unused: outputs of a file that was not made here which the contract has no name for.
    """

    path: Path
    format: Format
    precision: Precision
    inputs: Mapping[str, Binding]
    outputs: Mapping[str, Binding]
    quantization: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, sorted; one, unless the format is a folder."""
        if self.path.is_dir():
            return tuple(sorted(path for path in self.path.rglob("*") if path.is_file()))
        return (self.path,)

    @property
    def total_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)


class Exporter:
    """Converts a network to one format. Subclasses set the class attributes and implement ``convert``.

    Attributes:
        format, suffix: as in the manifest; ``.onnx``.
        precisions: what it makes out of the float network. Integer precisions come from compression/quantize.
        layout: of four-dimensional tensors in the file.
        options_type: its options; a recipe sets them under ``export.options``.
    """

    format: ClassVar[Format]
    suffix: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]]
    layout: ClassVar[str] = "NCHW"
    options_type: ClassVar[type[Options]] = Options

    def convert(
        self,
        net: nn.Module,
        precision: Precision,
        path: Path,
        interface: Interface,
        fp32: Exported | None,
        options: Any,
    ) -> None:
        """Write the converted network to ``path``, which does not exist yet.

        Args:
            net: in evaluation mode, float32, on the CPU, contiguous; the exporter's own copy.
            precision: one of ``precisions``.
            path: a temporary name with the format's suffix.
            interface: named example inputs and output shapes; the file's tensors are called the same.
            fp32: the same network's fp32 file of this format, if the caller has it already.
            options: of ``options_type``.
        """
        raise NotImplementedError

    def configure(self, values: Mapping[str, Any] | None = None) -> Options:
        """Plain values, as a recipe has them, to this exporter's options.

        Raises:
            ConfigError: an unknown key, a wrong type or a value out of range.
        """
        return configured(self.options_type, values, f"export.options.{self.format}")

    def export(
        self,
        net: nn.Module,
        *,
        precision: str,
        path: str | os.PathLike[str],
        input_size: int,
        fp32: Exported | None = None,
        options: Options | None = None,
        force: bool = False,
    ) -> Exported:
        """Convert a network: batch 1, static shapes, float32 outputs at any precision.

        What the converter prints goes to ``<path>.log`` beside the file.

        Args:
            net: in evaluation mode; its inputs and outputs are described in `interface`. It is copied, not changed.
            precision: one of ``precisions``.
            path: the file (folder for Core ML) to write.
            input_size: S, in pixels.
            fp32: this network's fp32 file of this format, which saves converting it once more for fp16.
            options: default: the format's defaults.
            force: replace what is there.

        Raises:
            BadInputError: the network is in training mode or has other outputs than it names, a precision that the
                format does not have, or the file exists.
            ConversionError: the converter failed, or its result has other tensors than asked for.
        """
        path = Path(path)
        kind = self._checked_precision(precision)
        if path.suffix != self.suffix:
            raise BadInputError(f"{path}: suffix {path.suffix!r}", expected=self.suffix)
        if fp32 is not None and (fp32.format, fp32.precision) != (self.format, "fp32"):
            raise BadInputError(f"{fp32.path} is {fp32.format} {fp32.precision}", expected=f"{self.format} fp32")
        chosen = self.options_type() if options is None else options
        if not isinstance(chosen, self.options_type):
            raise BadInputError(
                f"options {type(chosen).__name__} for {self.format}", expected=self.options_type.__name__
            )
        own, interface = interface_of(net, input_size)
        wanted = Exported(path, self.format, kind, *self.bindings(interface, chosen))
        return write_exported(
            wanted,
            lambda temporary: self.convert(own, kind, temporary, interface, fp32, chosen),
            doing=f"converting {type(net).__name__} to {self.format} {precision}",
            hint=f"the network may use an operation that {self.format} lacks",
            explain=lambda error: explain(error, own, interface.args, self.format),
            force=force,
        )

    def bindings(self, interface: Interface, options: Any) -> tuple[dict[str, Binding], dict[str, Binding]]:
        """Input and output bindings of the file that a network of this interface becomes."""
        return interface.bindings(self.layout)

    def _checked_precision(self, precision: str) -> Precision:
        for known in self.precisions:
            if known == precision:
                return known
        raise BadInputError(
            f"{self.format} export in {precision!r}",
            choices=self.precisions,
            next="Integer precisions come from compression/quantize, out of the fp32 file",
        )


def write_exported(
    wanted: Exported,
    write: Callable[[Path], None],
    *,
    doing: str,
    hint: str,
    explain: Callable[[Exception], Failure | None] | None = None,
    force: bool = False,
) -> Exported:
    """Let a converter write a file under a temporary name, check its tensors against the bindings, and rename it.

    What is printed meanwhile goes to ``<path>.log``.

    Args:
        wanted: what should be at ``wanted.path`` in the end.
        write: writes the file (or folder) of the name it is given.
        doing: for errors, e.g. ``"converting LandmarkNet to onnx fp32"``.
        hint: for errors, what to look at.
        explain: finds the operation that a converter gave up at, from its error.
        force: replace what is there.

    Returns:
        ``wanted``.

    Raises:
        BadInputError: the file exists already.
        ConversionError: ``write`` failed, or the file has other tensors than its bindings.
        EnvironmentProblemError: the disk is full or not writable.
    """
    path = wanted.path
    if not force and path.exists():
        raise BadInputError(f"{path} exists already", next="Choose another name or pass force=True")
    chatter = path.with_name(path.name + ".log")
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with chatter_to(chatter):
                write(temporary)
        except (OSError, PocketfaceError):
            raise
        except Exception as error:  # whatever a converter may raise; it is chained
            with chatter_to(chatter):
                failure = explain(error) if explain else None
            raise _conversion_error(f"{path.name}: {doing}", error, failure, chatter, hint) from error
        with chatter_to(chatter):
            found = read_signature(wanted.format, temporary)
        problems = check_signature(found, wanted.inputs, wanted.outputs)
        if problems:
            odd = ConversionError(f"{path.name}: {'; '.join(problems)}", next=f"See {chatter}")
            odd.log = chatter
            raise odd
        _replace(temporary, path)
    except OSError as error:
        raise os_problem(error, path) from error
    finally:
        _remove(temporary)
    log.info("%s: %d bytes", path.name, wanted.total_bytes)
    return wanted


def _conversion_error(what: str, error: Exception, failure: Failure | None, log: Path, hint: str) -> ConversionError:
    if failure is None:
        reason, remedy = f"{type(error).__name__}: {_first_line(error)}", hint
    elif failure.operation:
        reason, remedy = f"{failure.operation} in {failure.where} cannot be converted", failure.remedy
    else:
        reason, remedy = "its graph depends on its data", failure.remedy
    found = ConversionError(f"{what} failed ({reason})", next=f"{remedy[0].upper()}{remedy[1:]}. See {log}")
    found.failure, found.log = failure, log
    return found


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "no message"


def _replace(temporary: Path, path: Path) -> None:
    if path.is_dir() or temporary.is_dir():  # a folder does not replace what is there
        _remove(path)
    os.replace(temporary, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
