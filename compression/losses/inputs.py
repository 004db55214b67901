"""What every elementwise landmark loss asks of its tensors."""

from __future__ import annotations

from torch import Tensor

from pocketface.sdk.errors import BadInputError


def require_same_shape(pred: Tensor, **others: Tensor) -> None:
    """Refuse tensors that torch would silently broadcast against each other.

    Raises:
        BadInputError: if a tensor's shape differs from that of ``pred``.
    """
    for name, tensor in others.items():
        if tensor.shape != pred.shape:
            raise BadInputError(
                f"loss input {name!r} has shape {tuple(tensor.shape)}",
                expected=f"{tuple(pred.shape)}, the shape of the prediction",
                next="give every landmark tensor as (batch, n, 2) with one landmark scheme",
            )
