"""Faces with landmarks, real and drawn. Numpy and Pillow only.

- ``registry``: ``DATASETS`` and ``LABELLED``, every reader by name.
- ``face``: ``Face``, ``Reader``, and the checks that all annotations pass.
- ``pts``: .pts files, and any tree of images with one beside each.
- ``w300``: 300-W (AFW, HELEN, LFPW, iBUG); ``wflw``: WFLW's own lists.
- ``labelled``: ``Labelled``, a picture with a class a pixel, and its reader; ``label_files``: what those share.
- ``figaro1k``, ``celebamask``, ``drawn_labels``: Figaro1k, CelebAMask-HQ, drawn faces with their labels.
- ``fingerprint``: the hash by which manifests name a set of faces.
- ``degrade``: faces in bad conditions, by seed; ``degrade_sheet``: a picture of them.
- ``synthetic``: faces drawn by seed, with exact landmarks, labels, hair masks and motion.
"""
