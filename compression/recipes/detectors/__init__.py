"""Recipes of detectors' bundles: weights that exist, no training."""
