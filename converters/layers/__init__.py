"""Where an exported file leaves the network: intermediate tensors of each runtime against torch's, by module path.

`localise` compares one file, `registry` lists the tracers, one a format; `preprocess` compares what comes before the
network.
"""

from pocketface.converters.layers.compare import LayerReport, TensorError, localise

__all__ = ["LayerReport", "TensorError", "localise"]
