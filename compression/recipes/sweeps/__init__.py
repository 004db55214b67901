"""Sweeps that ship: `pocketface sweep` runs them."""
