"""What a shard of seeds consists of: background, foreground and ignored pixels, as JSON."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.masks import IGNORE


@dataclass
class SeedComposition:
    """Pixels of each kind, counted image by image."""

    background: int = 0
    foreground: int = 0
    ignored: int = 0

    def add(self, seed: np.ndarray) -> None:
        """Count the pixels of a seed uint8[H, W]."""
        background, ignored = int((seed == 0).sum()), int((seed == IGNORE).sum())
        self.background += background
        self.ignored += ignored
        self.foreground += seed.size - background - ignored

    def shares(self) -> dict[str, float]:
        """Share of each kind; all 0 for a shard without images."""
        total = max(1, self.background + self.foreground + self.ignored)
        return {kind: count / total for kind, count in vars(self).items()}

    def __str__(self) -> str:
        return ", ".join(f"{kind} {share:.1%}" for kind, share in self.shares().items())

    def write(self, path: Path) -> None:
        """Write the counts; the file appears whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(vars(self)) + "\n")
