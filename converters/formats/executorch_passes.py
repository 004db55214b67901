"""Rewrites that let XNNPACK take a whole network: what it cannot compute is said with operations that it can.

Without them a global mean splits the network into two delegates, with the slowest of kernels between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from executorch.exir.dialects._ops import ops
from executorch.exir.pass_base import ExportPass

_MEAN, _VIEW = ops.edge.aten.mean.dim, ops.edge.aten.view_copy.default
_SQUEEZE = (ops.edge.aten.squeeze_copy.dims, ops.edge.aten.squeeze_copy.dim)
_UNSQUEEZE = ops.edge.aten.unsqueeze_copy.default


class ShapesByView(ExportPass):
    """Means keep the axes they are taken over, and a view drops them; squeezes become views. Shapes are static."""

    def call_operator(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], meta: Any) -> Any:
        if op == _MEAN and args[1] and not (len(args) > 2 and args[2]):
            kept = super().call_operator(op, (args[0], args[1], True), kwargs, meta)
            return self._view(kept, _without(_shape(args[0]), args[1]), meta)
        if op in _SQUEEZE:
            shape = _shape(args[0])
            axes = [axis for axis in _axes(args[1], len(shape)) if shape[axis] == 1]
            return self._view(args[0], _without(shape, axes), meta)
        if op == _UNSQUEEZE:
            shape = _shape(args[0])
            (axis,) = _axes(args[1], len(shape) + 1)
            return self._view(args[0], [*shape[:axis], 1, *shape[axis:]], meta)
        return super().call_operator(op, args, kwargs, meta)

    def _view(self, value: Any, shape: Sequence[int], meta: Any) -> Any:
        return super().call_operator(_VIEW, (value, list(shape)), {}, meta)


def _shape(value: Any) -> list[int]:
    return list(value.to_tensor().shape)


def _axes(axes: int | Sequence[int], rank: int) -> list[int]:
    """Counted from the front."""
    return [axis % rank for axis in ([axes] if isinstance(axes, int) else axes)]


def _without(shape: list[int], axes: int | Sequence[int]) -> list[int]:
    gone = _axes(axes, len(shape))
    return [side for axis, side in enumerate(shape) if axis not in gone]
