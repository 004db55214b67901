"""Overlaps, and which detection is which track's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pocketface.sdk.geometry import Box, iou
from pocketface.sdk.video.matching import matches


def counted(a: Box, b: Box) -> float:
    """IoU of boxes with whole edges, by counting unit squares."""
    cells = [{(x, y) for x in range(int(q.x0), int(q.x1)) for y in range(int(q.y0), int(q.y1))} for q in (a, b)]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


def test_iou_is_that_of_counted_squares():
    random = np.random.default_rng(0)
    for _ in range(200):
        (x0, y0, x1, y1), (w0, h0, w1, h1) = random.integers(0, 12, 4), random.integers(1, 9, 4)
        a, b = Box(x0, y0, x0 + w0, y0 + h0), Box(x1, y1, x1 + w1, y1 + h1)
        assert iou(a, b) == pytest.approx(counted(a, b))
        assert iou(a, b) == iou(b, a)


def test_boxes_that_only_touch_do_not_overlap():
    assert iou(Box(0, 0, 2, 2), Box(2, 0, 4, 2)) == 0
    assert iou(Box(0, 0, 2, 2), Box(0, 0, 2, 2)) == 1


def test_the_largest_overlap_goes_first():
    tracks = [Box(0, 0, 10, 10), Box(6, 0, 16, 10)]
    # The first track overlaps both; the second detection is exactly the second track's.
    detections = [Box(5, 0, 15, 10), Box(1, 0, 11, 10)]
    assert matches(tracks, detections, 0.2) == {0: 1, 1: 0}


def test_each_is_taken_once_and_nothing_below_the_least():
    random = np.random.default_rng(1)
    for _ in range(50):
        tracks, found = (
            [Box(x, y, x + 5, y + 5) for x, y in random.uniform(0, 9, (count, 2))] for count in random.integers(0, 5, 2)
        )
        pairs = matches(tracks, found, 0.3)
        assert len(set(pairs.values())) == len(pairs)
        assert all(iou(tracks[t], found[d]) >= 0.3 for t, d in pairs.items())
        # Nothing that could be paired is left over.
        free = itertools.product(set(range(len(tracks))) - set(pairs), set(range(len(found))) - set(pairs.values()))
        assert all(iou(tracks[t], found[d]) < 0.3 for t, d in free)


def test_of_equal_overlaps_the_first_track_goes_first():
    same = Box(0, 0, 4, 4)
    assert matches([same, same], [same], 0.5) == {0: 0}
    assert matches([same], [same, same], 0.5) == {0: 0}
