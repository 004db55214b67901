"""Trained networks from checkpoint files, whoever defined them: ``registry`` finds the reader by the file's suffix."""

from pocketface.converters.networks.registry import load_network

__all__ = ["load_network"]
