"""Networks: a backbone with a points head and a score head, by name.

- ``registry``: ``MODELS``, ``ModelSpec``, ``build_model``.
- ``heads``: ``LandmarkNet``, what every landmark network is.
- ``mobilenetv2``, ``efficientnet``, ``efficientnet_lite``: the backbones.
- ``weights``: ``load_backbone``: pretrained weights from a file or a package.
- ``flops``: ``count_parameters``, ``flops``.
"""
