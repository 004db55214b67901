"""Classes of a segmentation: `load_classes` by name or path, `CLASS_SETS` the built-in names, `check_classes`."""

from pocketface.sdk.classes.registry import CLASS_SETS, check_classes, load_classes

__all__ = ["CLASS_SETS", "check_classes", "load_classes"]
