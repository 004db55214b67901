"""What runs which operations, as data: one JSON file a delegate, made of its documentation or source, which it names.

``support`` reads them. To add one, add a file: format, source and version, what the source is silent on, and the
operations with the types they are computed in.
"""
