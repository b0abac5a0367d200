"""The resume checkpoint of a training run: one safetensors file beside the final weights.

It carries model, optimiser state and step, and a fingerprint of configuration, data and code. Data order,
augmentation and dropout are functions of the step (`training.randomness`), so nothing else is needed to
go on bit for bit.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from workflow_scripts.storage.atomic import atomic_path, hidden_beside

logger = logging.getLogger(__name__)


def fingerprint(*parts: Any) -> str:
    """Digest of whatever a run depends on; parts are rendered as JSON."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Checkpoint:
    """Saves and restores the state of one run.

    The current file replaces the previous one only when it is whole; the previous one is kept beside
    it, in case the current one turns out to be damaged.
    """

    def __init__(self, final: Path, run_fingerprint: str) -> None:
        self.path = hidden_beside(final, ".resume")
        self.previous = hidden_beside(final, ".resume.previous")
        self.fingerprint = run_fingerprint

    def save(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, step: int, notes: dict[str, Any]
    ) -> None:
        """Write the state after `step` steps.

        Args:
            network: Its parameters and buffers.
            optimiser: Its tensors and numbers.
            step: Number of steps done.
            notes: Small values (JSON) that belong to the run, such as its history.
        """
        tensors: dict[str, Tensor] = {
            f"model.{name}": tensor.detach().cpu().contiguous()
            for name, tensor in network.state_dict().items()
        }
        numbers: dict[str, Any] = {}
        for index, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser.{index}.{key}"] = value.detach().cpu().contiguous()
                elif value is not None:
                    numbers[f"{index}.{key}"] = value
        metadata = {
            "fingerprint": self.fingerprint,
            "step": str(step),
            "numbers": json.dumps(numbers),
            "notes": json.dumps(notes),
        }
        if self.path.exists():
            self.path.replace(self.previous)
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, metadata)

    def restore(
        self, network: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[int, dict[str, Any]] | None:
        """Bring back the last state.

        Returns:
            (steps done, notes), or None if there is nothing to resume from: no file, a damaged one, or
            one of another configuration, data or code (both said in the log).
        """
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                with safe_open(path, framework="pt") as file:
                    metadata = file.metadata()
                    if metadata["fingerprint"] != self.fingerprint:
                        logger.warning(
                            "%s belongs to another configuration, data or code: starting afresh",
                            path,
                        )
                        return None
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                logger.warning("%s is damaged (%s): not used", path, error)
                continue
            self._fill(network, optimiser, tensors, json.loads(metadata["numbers"]))
            return int(metadata["step"]), json.loads(metadata["notes"])
        return None

    @staticmethod
    def _fill(
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        tensors: dict[str, Tensor],
        numbers: dict[str, Any],
    ) -> None:
        network.load_state_dict(
            {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        )
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = tensor
        for name, value in numbers.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})

    def remove(self) -> None:
        """Forget the run: its final weights are written."""
        self.path.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)
