"""The face-AR thesis' figures of hair (chapter 6) and of face parsing (chapter 7), as printed."""

from __future__ import annotations

from pocketface.benchmarks.reports.sections import Row
from pocketface.benchmarks.reports.text import number

ALONE, PRIOR, WHOLE = "Only Seg Stage", "(Det + Seg) Stage", "(Det + Seg + Refine) Stage"
"""Rows of Tables 6.1 and 6.2: without the prior, with it, and with border refinement too."""

STAGES = {
    "teacher": (WHOLE, {"prior": True, "refine": True}),
    "without refinement": (PRIOR, {"prior": True, "refine": False}),
    "segmentation only": (ALONE, {"prior": False, "refine": False}),
}
"""Network of the recipe -> the thesis' name, and the options that a ``hair_two_stage`` must have."""

TABLE_61 = {
    "U-Net": (95.63, 94.39, 89.69, 96.36),
    "DeeplabV3+": (96.86, 95.05, 91.11, 97.07),
    "[Muhammad et al., 2018]": (None, 84.90, None, 91.50),
    ALONE: (95.64, 94.53, 89.91, 96.56),
    PRIOR: (97.25, 95.09, 91.15, 97.20),
    WHOLE: (97.33, 95.15, 91.25, 97.23),
}
"""Figaro1k: precision, F1, mIoU and accuracy, percent."""

TABLE_62 = {
    "U-Net": (89.11, 87.66, 88.33, 96.58),
    "DeeplabV3+": (91.66, 88.36, 90.64, 96.82),
    "[Liu et al., 2017d]": (None, 83.43, None, 95.46),
    ALONE: (89.13, 88.07, 90.12, 96.71),
    PRIOR: (98.24, 88.94, 90.53, 96.76),
    WHOLE: (98.34, 89.42, 90.56, 97.05),
}
"""LFW-Part: precision, F1 of hair, mIoU and accuracy, percent."""

TABLE_71 = {
    "SegNet": (92.90, 29.45),
    "Unet": (93.72, 13.40),
    "Mobile-Hourglass-f16-tau3": (93.00, 0.09),
    "Mobile-Hourglass-f16-tau6": (93.08, 0.12),
    "Mobile-Hourglass-f32-tau3": (93.18, 0.17),
    "Mobile-Hourglass-f32-tau6": (93.55, 0.27),
}
"""HELEN: overall F-score, percent, and millions of parameters."""

TABLE_72 = {
    "Unet": (7, 203, 54, 269),
    "Mobile-Hourglass-f16-tau3": (8, 77, 18, 106),
    "Mobile-Hourglass-f16-tau6": (7, 75, 18, 103),
    "Mobile-Hourglass-f32-tau3": (7, 76, 18, 104),
    "Mobile-Hourglass-f32-tau6": (7, 78, 18, 106),
    "Dense Mobile-Hourglass-f32-tau6": (7, 75, 18, 110),
}
"""iPhone X: milliseconds of face detection, inference, colourisation, and in total; the parts do not all add up."""

COLUMNS_6 = ("precision %", "F1 %", "mIoU %", "accuracy %")


def quoted_61(name: str) -> Row:
    """The columns ``paper: ...`` of a row of Table 6.1; none for a name that is not in it."""
    return {f"paper: {column}": value for column, value in zip(COLUMNS_6, TABLE_61.get(name, ()), strict=False)}


def printed_gain(without: str, having: str) -> str:
    """Points of mIoU between two rows of Table 6.1; a dash for one without mIoU."""
    low, high = TABLE_61[without][2], TABLE_61[having][2]
    return number(None if low is None or high is None else high - low)


def quoted_62() -> list[Row]:
    """Table 6.2."""
    return [{"paper's row": name, **dict(zip(COLUMNS_6, found, strict=True))} for name, found in TABLE_62.items()]


def quoted_71() -> list[Row]:
    """Table 7.1."""
    return [
        {"paper's row": name, "overall F-score": score, "M parameters": count}
        for name, (score, count) in TABLE_71.items()
    ]


def quoted_72() -> list[Row]:
    """Table 7.2, in the columns of the steps of a frame."""
    return [
        {
            "network": f"paper, iPhone X: {name}",
            "detection": float(detection),
            "inference": float(inference),
            "colour": float(colour),
            "total": float(total),
        }
        for name, (detection, inference, colour, total) in TABLE_72.items()
    ]
