"""Bundles that come with the package, ``NAME.pface``: see sdk/shipped.py, and ``pocketface models``."""
