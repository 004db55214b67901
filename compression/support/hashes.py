"""What a row of the support table depends on, as a hash: the source of the network, of the exporter or quantizer and of
what judges them, without comments and docstrings, and the versions of the packages that do the work.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from pocketface.compression.models.registry import MODELS, SEGMENT_MODELS, STAGE_MODELS
from pocketface.compression.quantize.registry import QUANTIZERS
from pocketface.compression.support.cases import N_CLASSES, Case
from pocketface.converters.executors.registry import EXECUTORS
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.registry import Registry

TOOLS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "tflite": ("litert-torch", "ai-edge-quantizer", "ai-edge-litert"),
    "coreml": ("coremltools",),
    "executorch": ("executorch", "torchao"),
    "coreml.w8a8": ("torchao",),
}
"""Packages whose version decides what the files of a format hold, or of one of its precisions; torch besides."""


def row_hash(case: Case, format: str, precision: str) -> str:
    """Sixteen hexadecimal digits: what makes the row's file, the bounds it is tried against, and the reference executor
    where one runs it. Readers, the audit and runtimes' backends are left out: they are tested by themselves, and a few
    rows are run again with every test run.
    """
    made_by = QUANTIZERS if f"{format}.{precision}" in QUANTIZERS else None
    networks = next(table for table in (MODELS, STAGE_MODELS, SEGMENT_MODELS) if case.network in table)
    modules = {
        _module(networks, case.network),
        _module(EXPORTERS, format),
        "pocketface.compression.trial",
        "pocketface.compression.variants",
        "pocketface.converters.module_paths",
        *(_package(_module(EXECUTORS, format)) if format in EXECUTORS else ()),
        *([_module(made_by, f"{format}.{precision}")] if made_by is not None else []),
        *(["pocketface.converters.pixels"] if case.input == "pixels" else []),
    }
    tools = (*TOOLS.get(format, ()), *TOOLS.get(f"{format}.{precision}", ()))
    content = [
        msgspec.to_builtins(case),
        case.spec.input_size,
        *([N_CLASSES, case.spec.options, case.quantize.get(f"{format}.{precision}")] * (networks is SEGMENT_MODELS)),
        # Only where there are any: rows of before settings were known keep their hash.
        *([case.quantize.get(f"{format}.{precision}")] * (networks is STAGE_MODELS and bool(case.quantize))),
        format,
        precision,
        sorted((name, _source_hash(name)) for name in _with_imports(modules)),
        [(name, tool_version(name)) for name in ("torch", *tools)],
    ]
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]


def tool_version(name: str) -> str:
    """Of a package, without the build's tag (``+cpu``)."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return ""


def _package(module: str) -> list[str]:
    """Every module of the package that a module lies in."""
    package = module.rpartition(".")[0]
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [found.name for found in pkgutil.walk_packages(folders, f"{package}.")]


def _module(registry: Registry, name: str) -> str:
    return registry._entries()[name].partition(":")[0]


# What a row depends on beyond its own modules' imports would make every row stale with every change of the runtime.
_FOLLOWED = ("pocketface.compression.models", "pocketface.compression.quantize", "pocketface.converters.formats")


def _with_imports(modules: set[str]) -> set[str]:
    """Modules, and what they import of networks, quantizers and exporters."""
    found: set[str] = set()
    waiting = sorted(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting.extend(_imports(name))
    return found


@cache
def _imports(name: str) -> tuple[str, ...]:
    """What a module imports of networks, quantizers and exporters."""
    nodes = ast.walk(ast.parse(_source(name)))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    # Tables name every network and quantizer: a new line in one makes no other row stale.
    return tuple(module for module in modules if module.startswith(_FOLLOWED) and not module.endswith(".registry"))


@cache
def _source_hash(module: str) -> str:
    """Of a module's syntax tree without docstrings: comments and layout do not count."""
    tree = ast.parse(_source(module))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a string alone: a docstring."""
    value = getattr(statement, "value", None) if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@cache
def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise BadInputError(f"module {module} has no source", next="Install pocketface again")
    return Path(spec.origin).read_text("utf-8")
