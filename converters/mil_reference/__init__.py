"""Core ML without a Mac: a saved ``.mlpackage`` is read back and its MIL program executed with numpy.

``reference`` holds the executor, `MilReference`; ``package`` reads the files, ``blob`` the weights, ``program`` the
operations, and ``kernels`` compute them.
"""
