"""Backbones by name, for tests."""

from typing import Any

from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.models.feature_maps import Backbone


def settings(**values: Any) -> BackboneSettings:
    """Settings of a backbone; `name` says which."""
    return BackboneSettings.model_validate(values)


def build(**values: Any) -> Backbone:
    """A backbone with random weights."""
    return settings(**values).build()
