"""One stage of a bundle, ready to run, and what it hands to the next.

image, crop --preprocess--> tensor --predict_tensor--> raw outputs --onward--> relocalize: the image, a better crop
                                                                               uniformize: a picture of the same crop
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.backends.base import Backend, Tensor, Tensors
from pocketface.sdk.backends.delegates import AUTO
from pocketface.sdk.backends.registry import BACKENDS, has_executor
from pocketface.sdk.bundle import Bundle
from pocketface.sdk.errors import BadInputError, BundleError, EnvironmentProblemError
from pocketface.sdk.geometry import Crop
from pocketface.sdk.manifest import Manifest, Stage
from pocketface.sdk.postprocess import checked_output, corrected_crop, in_contract_shape, unit_image
from pocketface.sdk.preprocess import stage_input

Source: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""What a stage is shown: the (H, W, 3) uint8 image, or a uniformized (S, S, 3) float32 picture of the crop."""

Executors: TypeAlias = type[Backend] | Mapping[str, type[Backend]]
"""What runs a variant instead of its format's own runtime: one for all formats, or format -> executor."""


class View(NamedTuple):
    """What a stage looks at.

    ``source``: see `Source`. ``crop``: where, in the original image; a picture shows just this crop.
    """

    source: Source
    crop: Crop


class StageRunner:
    """One variant of one stage, ready to run.

    Args:
        bundle: an opened bundle; it may be closed afterwards.
        variant: id of the variant, as in ``relocalize.fp32.onnx``.
        threads: threads the runtime may use, at least 1.
        delegate: what the runtime hands the network to, see its backend; ``auto`` leaves it to the runtime.
        executor: what runs it, instead of its format's runtime.

    Attributes:
        stage, variant: the contract it follows.
        backend: the runtime that holds the model.

    Raises:
        BadInputError: not a number of threads.
        BundleError: no such variant, or the runtime refuses its file.
        EnvironmentProblemError: nothing here can run this format, or the runtime has no such delegate here.
    """

    def __init__(
        self,
        bundle: Bundle,
        variant: str,
        *,
        threads: int = 1,
        delegate: str = AUTO,
        executor: Executors | None = None,
    ) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
            raise BadInputError(f"threads {threads!r}", expected="a whole number from 1 to 1024")
        self.stage, self.variant = bundle.manifest.variant(variant)
        if self.stage.task != "segmentation" and (self.stage.states or len(self.stage.inputs) != 1):
            raise BundleError(
                f"stage {self.stage.name!r} has states or several inputs",
                expected="one image in",
                next="Update pocketface: pip install -U pocketface",
            )
        format = self.variant.format
        given = executor.get(format) if isinstance(executor, Mapping) else executor
        if given is None and not has_executor(format):
            raise EnvironmentProblemError(
                f"variant {self.variant.id!r} is {format}, which nothing here can run",
                choices=[other.id for other in self.stage.variants if has_executor(other.format)],
                next=f"Choose {self._what(bundle.manifest)} with --variant, or install its runtime",
            )
        if given is not None and delegate != AUTO:
            raise BadInputError(f"delegate {delegate!r} for an executor of your own", expected="'auto'")
        # An executor, or a backend of another distribution, need not know of delegates.
        more = {} if delegate == AUTO else {"delegate": delegate}
        self.backend: Backend = (given or BACKENDS[format])(
            bundle.variant_path(self.variant), self.variant, threads=threads, **more
        )

    @staticmethod
    def _what(manifest: Manifest) -> str:
        if len(manifest.stages) == 1:
            return "one of these"
        return f"a chain that runs here ({', '.join(runnable(manifest)) or 'there is none'}) or a mix with one of these"

    def preprocess(self, source: Source, crop: Crop) -> Tensor:
        """What the stage is shown -> the network's input: (1, 3, S, S) float32, or uint8 if it takes pixels.

        Args:
            source: (H, W, 3) uint8 RGB; or (S, S, 3) float32 RGB in [0, 255], the picture of the crop that a uniformize
                stage gave.
            crop: where in the image; a picture is taken as a whole.
        """
        return stage_input(source, crop, self.stage.preprocess)

    def predict_tensor(self, tensor: Tensor, others: Mapping[str, Tensor] | None = None) -> Tensors:
        """Run the network alone.

        Args:
            tensor: (1, 3, S, S) float32, normalised; uint8 pixels where the stage's input says so.
            others: the stage's inputs besides the image, by name: a previous mask.

        Returns:
            Output name -> raw float32 output, in the contract's shape.

        Raises:
            BadInputError: another shape or type, or an input too few or too many.
        """
        given = {self.stage.inputs[0].name: tensor, **(others or {})}
        names = [spec.name for spec in self.stage.inputs]
        if sorted(given) != sorted(names):
            raise BadInputError(f"inputs {', '.join(given)}", expected=", ".join(names))
        for spec in self.stage.inputs:
            value = given[spec.name]
            if value.shape != spec.shape or value.dtype != spec.dtype:
                raise BadInputError(
                    f"tensor of shape {value.shape} and type {value.dtype}", expected=f"{spec.shape} {spec.dtype}"
                )
        return in_contract_shape(self.backend.run(given), self.stage)


def onward(outputs: Mapping[str, NDArray[np.float32]], stage: Stage, view: View) -> View:
    """What the stage after this one looks at.

    Args:
        outputs: contract name -> array, of a relocalize or uniformize stage.
        stage: the stage that gave them.
        view: what it was shown.

    Raises:
        BundleError: a landmarks stage, after which there is none; an output that is missing, of another shape or not
            finite.
    """
    if stage.task in ("landmarks", "segmentation", "detection"):
        raise BundleError(f"stage {stage.name!r} ends the chain", next="Decode it: pocketface.sdk.postprocess.decode")
    (spec,) = stage.outputs
    value = checked_output(outputs, spec.name, spec.shape)
    if stage.task == "relocalize":
        return View(view.source, corrected_crop(value, view.crop)[1])
    return View(unit_image(value), view.crop)


def runnable(manifest: Manifest) -> list[str]:
    """Ids of the variants, or chains, that can run here."""
    return [id for id in manifest.chains if all(has_executor(variant.format) for _, variant in manifest.chain(id))]
