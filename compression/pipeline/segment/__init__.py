"""Runs of masks: hair, or the parts of a face. context.py (pictures) -> train.py (networks)."""
