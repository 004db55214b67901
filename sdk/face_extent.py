"""Where the face lies in a picture's labels: what a box around a mask, true or found, is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.geometry import Box
from pocketface.sdk.manifest import ClassSet


def face_extent(labels: NDArray[np.uint8], classes: ClassSet) -> Box | None:
    """The tight box around a labelled face: what landmarks from the brows to the chin and jaw would span.

    The labels have no landmarks: left, right and lower edge are those of everything that is neither background nor
    hair, the upper edge is that of the brows and eyes, where there are any.

    Args:
        labels: (H, W) in ``classes``.
        classes: of the labels.

    Returns:
        Its edges, in pixels; None where no pixel is a face's.
    """
    index = {name.replace("_", " ").lower(): value for value, name in enumerate(classes.names)}
    face = np.isin(labels, [value for name, value in index.items() if name not in ("background", "hair")])
    if not face.any():
        return None
    columns, rows = np.flatnonzero(face.any(0)), np.flatnonzero(face.any(1))
    upper = np.isin(labels, [value for name, value in index.items() if name.endswith((" brow", " eye"))])
    top = int(np.flatnonzero(upper.any(1))[0]) if upper.any() else int(rows[0])
    return Box(int(columns[0]) - 0.5, top - 0.5, int(columns[-1]) + 0.5, int(rows[-1]) + 0.5)
