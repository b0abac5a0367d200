"""Which entries a stage uses: their code counts for its results, and its plug-ins have to be loaded."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from workflow_scripts.doors.door import Door
from workflow_scripts.fingerprint import code_digests
from workflow_scripts.settings.base import Settings


class Use(NamedTuple):
    """An entry that is used."""

    door: Door[Any]
    name: str


def uses(settings: BaseModel) -> list[Use]:
    """Entries that settings choose, at any depth."""
    found: list[Use] = []
    if isinstance(settings, Settings):
        found += [Use(*entry) for entry in settings.chosen_entries()]
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            found += uses(value)
    return found


def code_of(stage: str, used: Iterable[Use]) -> dict[str, str]:
    """Digests of the code of a stage and of the entries that it uses (see `fingerprint.py`)."""
    used = list(used)
    return code_digests(
        stage,
        entries=[module for use in used for module in use.door.modules(use.name)],
        files=[file for use in used for file in use.door.files(use.name)],
    )


def plug_ins(used: Iterable[Use]) -> list[Path]:
    """Plug-ins among the entries, each once, as the configuration names them."""
    files = (file for use in used for file in use.door.plug_ins(use.name))
    return list(dict.fromkeys(files))
