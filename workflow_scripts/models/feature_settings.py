"""Settings of stored features: which network's, of which views."""

import hashlib
import re
from typing import Any, Literal

from workflow_scripts.backbones.resnet import ResNet
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import Settings
from workflow_scripts.settings.training import FeatureSettings

DIGITS = 10


class CacheFeaturesSettings(Settings):
    """Features that trainings share: of the same backbone, views and arithmetic."""

    backbone: BackboneSettings = ResNet()
    features: FeatureSettings = FeatureSettings(cache=True)
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"] = "auto"

    @property
    def folder(self) -> str:
        """Name of the folder that holds them: the backbone's, and a digest of all that they depend on."""
        name = re.sub(r"[^A-Za-z0-9.]+", "_", self.backbone.name)
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:DIGITS]
        return f"{name}-{digest}"


def stored_features(settings: Any, section: str) -> CacheFeaturesSettings | None:
    """What a training learns from in the place of images; None where it sees images.

    Args:
        settings: Its settings.
        section: Their name in the configuration, for messages.

    Raises:
        InputError: It goes on from another network, whose backbone learns.
    """
    training = settings.training
    if not training.features.cache:
        return None
    backbone = getattr(settings, "backbone", None)
    if backbone is None:
        raise InputError(
            f"{section}.training.features.cache: this method goes on from another's network, whose backbone "
            "learns; leave `cache` out"
        )
    # What of it would learn does not matter.
    values = backbone.model_dump(exclude=set(backbone.freezing))
    return CacheFeaturesSettings.model_validate({
        "backbone": values, "features": training.features, "precision": training.precision
    })  # fmt: skip
