"""Faces with landmarks, real and drawn. Numpy and Pillow only.

- ``registry``: ``DATASETS``, every reader by name.
- ``face``: ``Face``, ``Reader``, and the checks that all annotations pass.
- ``pts``: .pts files, and any tree of images with one beside each.
- ``w300``: 300-W (AFW, HELEN, LFPW, iBUG); ``wflw``: WFLW's own lists.
- ``fingerprint``: the hash by which manifests name a set of faces.
- ``degrade``: faces in bad conditions, by seed; ``degrade_sheet``: a picture of them.
- ``synthetic``: faces drawn by seed, with exact landmarks, labels, hair masks and motion.
"""
