"""pocketface.converters: one file per export format, parity, the bundle writer, ``verify``."""
