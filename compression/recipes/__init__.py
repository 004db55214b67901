"""Recipes that ship: YAML files for ``pocketface compress`` and ``pocketface ablate``."""
