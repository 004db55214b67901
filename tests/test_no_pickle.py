"""Nothing that is read can run code: no pickle at run time, and checkpoints are safetensors. By what the files say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("sdk", "benchmarks", "converters", "compression")
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))

RUN_CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
"""Modules whose files can run code when they are read."""

EXCEPTIONS = {
    # The name of the error that torch.load(weights_only=True) raises over a file with code in it.
    ("compression/models/weights.py", "imports pickle"),
    # Lightning's checkpoint of a training that goes on: written and read by the same run, in its own folder, never
    # shipped and never taken from elsewhere. What is handed on is safetensors.
    ("compression/training/loop.py", "torch.load(weights_only=False)"),
    ("compression/training/loop.py", "fit(weights_only=False)"),
}


def name_of(node: ast.expr) -> str:
    """``torch.load`` of the expression torch.load."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(source: str) -> Iterator[str]:
    """What of a file could run code that is not its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"imports {item.name}" for item in node.names if item.name.split(".")[0] in RUN_CODE)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in RUN_CODE:
            yield f"imports {node.module}"
        elif isinstance(node, ast.Call):
            yield from called(node)


def called(node: ast.Call) -> Iterator[str]:
    name = name_of(node.func)
    last = name.rpartition(".")[2]
    given = {word.arg: word.value for word in node.keywords}
    if name in ("eval", "exec", "compile", "builtins.eval", "builtins.exec"):
        yield f"{name}()"
    for argument, safe in (("allow_pickle", False), ("weights_only", True)):
        value = given.get(argument)
        # A configuration of ours has a field of that name, which lists modules.
        if isinstance(value, ast.Constant) and isinstance(value.value, bool) and value.value is not safe:
            yield f"{name if last == 'load' else last}({argument}={value.value})"
    if name == "torch.load" and "weights_only" not in given:
        yield "torch.load() without weights_only"
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.jit.load", "torch.hub.load"):
        yield f"{name}()"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_is_read_can_run_code(path: Path) -> None:
    where = path.relative_to(ROOT).as_posix()
    found = {(where, danger) for danger in dangers(path.read_text(encoding="utf-8"))}
    assert found <= EXCEPTIONS


def test_every_exception_is_still_needed() -> None:
    found = {(where, danger) for where, _ in EXCEPTIONS for danger in dangers((ROOT / where).read_text())}
    assert found >= EXCEPTIONS
    assert not any(where.startswith(("sdk/", "converters/")) for where, _ in EXCEPTIONS)


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from cloudpickle import loads", "import joblib.numpy_pickle"),
        *("torch.load(path)", "torch.load(path, weights_only=False)", "np.load(f, allow_pickle=True)"),
        *("eval(text)", "yaml.load(text, Loader)", "trainer.fit(m, weights_only=False)"),
    ],
)
def test_the_scan_sees_it(line: str) -> None:
    assert list(dangers(f"def f():\n    {line}\n"))


@pytest.mark.parametrize(
    "line", ["torch.load(path, weights_only=True)", "np.load(f)", "yaml.safe_load(f)", "net.eval()", "re.compile(x)"]
)
def test_the_scan_lets_pass(line: str) -> None:
    assert not list(dangers(line))
