"""Networks as they are usually run: float32, in the contiguous memory format."""

import torch

channels_last = torch.contiguous_format


def choose_dtype(precision: str, backbone: str, device: torch.device) -> torch.dtype:
    """float32, whatever the network and the device."""
    return torch.float32
