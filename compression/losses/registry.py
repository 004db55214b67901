"""Every landmark loss, by name. Listing them imports no torch.

To add one: write its file with a ``build(spec) -> Loss``, add its line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from pocketface.sdk.errors import BadInputError, ConfigError, UnknownNameError
from pocketface.sdk.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

LOSSES = Registry(
    "loss",
    extra="compress",
    table={
        "l1": "pocketface.compression.losses.plain:build_l1",
        "l2": "pocketface.compression.losses.plain:build_l2",
        "smooth_l1": "pocketface.compression.losses.plain:build_smooth_l1",
        "kd": "pocketface.compression.distill.kd:build_kd",
        "assist_tough": "pocketface.compression.distill.kd:build_tough",
        "assist_tolerant": "pocketface.compression.distill.kd:build_tolerant",
    },
)

FEATURES = Registry(
    "feature network",
    extra="compress",
    table={
        "efficientnet_lite0": "pocketface.compression.models.features:build_efficientnet_lite0",
        "vgg_face": "pocketface.compression.models.features_vgg:build_vgg_face",
    },
)
"""Frozen networks of RULe's eqs 5-6; built by `pocketface.compression.models.features.build_features`."""

TEACHERS = ("tough", "tolerant")


class LossSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A loss and its parameters, as a recipe gives them; a loss ignores the parameters that are not its own.

    Attributes:
        name: a name of ``LOSSES``.
        phi: weight of the main loss in ``kd``, > 0; ``assist_tough`` and ``assist_tolerant`` use half of it. The paper
            prints 2; from 1 / sigma = 2.5 on the loss is never negative.
        sigma: share of a teacher's distance that counts as accurate enough, in (0, 0.5].
        beta: where the parabola of ``smooth_l1`` ends, in normalised units (crop = 1), > 0.

    Raises:
        UnknownNameError: if no loss has this name.
        ConfigError: if a parameter is out of range.
    """

    name: str
    phi: float = 2.5
    sigma: float = 0.4
    beta: float = 0.01

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            raise UnknownNameError(
                "loss", self.name, LOSSES, next=f"Add your own through the entry-point group {LOSSES.group}"
            )
        for key, expected, good in (
            ("phi", "a positive number", math.isfinite(self.phi) and self.phi > 0),
            ("sigma", "a share in (0, 0.5]", 0 < self.sigma <= 0.5),
            ("beta", "a positive number", math.isfinite(self.beta) and self.beta > 0),
        ):
            if not good:
                raise ConfigError(
                    f"loss {self.name!r}: {key} is {getattr(self, key)}", expected=expected, next=f"change {key}"
                )


class Loss:
    """A loss with its parameters bound: ``loss(pred, truth, tough, tolerant)``, elementwise.

    Args:
        spec: what it was built from.
        function: takes pred, truth and, by keyword, the teachers it needs; all (batch, n, 2), normalised; returns
            (batch, n, 2).
        needs: the teachers it needs, among ``TEACHERS``; the others may be None, and are not looked at.
    """

    def __init__(self, spec: LossSpec, function: Callable[..., Tensor], needs: Iterable[str] = ()) -> None:
        self.spec, self.needs, self._function = spec, frozenset(needs), function
        if not self.needs <= set(TEACHERS):
            raise ConfigError(f"loss {spec.name!r} needs {sorted(self.needs)}", choices=TEACHERS)

    def __call__(
        self, pred: Tensor, truth: Tensor, tough: Tensor | None = None, tolerant: Tensor | None = None
    ) -> Tensor:
        """The loss of each coordinate, (batch, n, 2), not reduced.

        Raises:
            BadInputError: if a teacher that the loss needs is None, or shapes differ.
        """
        given = {"tough": tough, "tolerant": tolerant}
        teachers = {name: given[name] for name in TEACHERS if name in self.needs}
        missing = [name for name, points in teachers.items() if points is None]
        if missing:
            raise BadInputError(
                f"loss {self.spec.name!r} got no points of the teacher {' and '.join(missing)}",
                expected=f"the points of {' and '.join(teachers)}",
                next="train that teacher first, or choose a loss that needs none: l1, l2, smooth_l1",
            )
        return self._function(pred, truth, **teachers)

    def __repr__(self) -> str:
        return f"Loss({self.spec})"


def build_loss(spec: LossSpec) -> Loss:
    """The loss that a recipe names.

    Raises:
        MissingExtraError: if torch is not installed.
    """
    return LOSSES[spec.name](spec)
