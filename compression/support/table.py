"""The stored results: which rows there are, which are stale, and how they are made."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from pocketface.compression.support.cases import INPUT_SIZE, N_CLASSES, Case, Input, cases, every_format
from pocketface.compression.support.hashes import TOOLS, row_hash, tool_version
from pocketface.compression.trial import Trial, random_network, try_variants
from pocketface.sdk.errors import BadInputError

COMMAND = "make support"

Key: TypeAlias = tuple[str, str, str, str, str]
"""Network, head, input, format, precision."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One network, head and input in one format and precision, with the hash of what it depends on."""

    network: str
    head: Literal["pooled", "spatial"]
    input: Input
    hash: str
    trial: Trial

    @property
    def key(self) -> Key:
        return (self.network, self.head, self.input, self.trial.format, self.trial.precision)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The stored results: docs/support.json."""

    command: str
    python: str
    input_size: int
    tools: dict[str, str]
    rows: tuple[Row, ...]


def read_table(path: Path) -> Table:
    """Read docs/support.json.

    Raises:
        BadInputError: it is missing or damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Table)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadInputError(f"{path}: {error}", next=f"Make it again: {COMMAND}") from error


def wanted_keys() -> set[Key]:
    """Keys of the rows that the table must have."""
    return {
        case_key(case, format, precision)
        for case in cases()
        for format, known in every_format().items()
        for precision in known
    }


def stale(table: Table) -> list[str]:
    """What is wrong with a stored table: rows that are missing, too many, or whose hash is not today's."""
    stored = {row.key: row for row in table.rows}
    wanted = wanted_keys()
    problems = [f"{' '.join(key)}: no row" for key in sorted(wanted - set(stored))]
    problems += [f"{' '.join(key)}: no such variant any more" for key in sorted(set(stored) - wanted)]
    for key in sorted(wanted & set(stored)):
        case = Case(network=key[0], head=stored[key].head, input=stored[key].input)
        if stored[key].hash != row_hash(case, key[3], key[4]):
            problems.append(f"{' '.join(key)}: stale")
    return problems


def spot_checks(table: Table, count: int) -> list[Row]:
    """Rows to run again: those of the smallest hashes, which nobody chose and every change moves."""
    return sorted(table.rows, key=lambda row: row.hash)[:count]


def rows(
    case: Case, formats: Mapping[str, tuple[str, ...]], say: Callable[[str], None] = lambda text: None
) -> Iterator[Row]:
    """Try one network.

    Args:
        formats: format -> precisions.
    """
    net = random_network(case.spec, pixels=case.input == "pixels", n_classes=N_CLASSES)
    with tempfile.TemporaryDirectory(prefix="pocketface-support-") as folder:
        for trial in try_variants(
            case.network, net, case.spec.input_size, formats, Path(folder), quantize=case.quantize, say=say
        ):
            yield Row(
                network=case.network,
                head=case.head,
                input=case.input,
                hash=row_hash(case, trial.format, trial.precision),
                trial=trial,
            )


def make_table(stored: Table | None, say: Callable[[str], None] = lambda text: None) -> Iterator[Table]:
    """Try every row that is missing or stale; the others are taken from the stored table.

    Yields:
        The table so far, after each network: a long run that is killed goes on where it was.
    """
    fresh = {} if stored is None else {row.key: row for row in stored.rows}
    done: dict[tuple[str, ...], Row] = {}
    for case in cases():
        todo: dict[str, tuple[str, ...]] = {}
        for format, known in every_format().items():
            for precision in known:
                row = fresh.get(case_key(case, format, precision))
                if row is not None and row.hash == row_hash(case, format, precision):
                    done[row.key] = row
                else:
                    todo[format] = (*todo.get(format, ()), precision)
        if todo:
            done |= {row.key: row for row in rows(case, todo, say)}
            yield _table(done)
    yield _table(done)


def _table(done: Mapping[tuple[str, ...], Row]) -> Table:
    """The rows in the order of the cases and formats."""
    order = [
        case_key(case, format, precision)
        for case in cases()
        for format, known in every_format().items()
        for precision in known
    ]
    names = ("torch", *dict.fromkeys(name for tools in TOOLS.values() for name in tools))
    return Table(
        command=COMMAND,
        python=platform.python_version(),
        input_size=INPUT_SIZE,
        tools={name: tool_version(name) for name in names},
        rows=tuple(done[key] for key in order if key in done),
    )


def case_key(case: Case, format: str, precision: str) -> Key:
    """What tells a row from the others."""
    return (case.network, case.head, case.input, format, precision)
