"""Chapter 11: on which devices numbers of half the size save time."""

from __future__ import annotations

import warnings

import torch

AMPERE = (8, 0)
"""The first generation of NVIDIA's GPUs that multiplies bfloat16; Colab's T4 is of an earlier one."""


def has_bfloat16(device: str | torch.device) -> bool:
    """Return whether a device has arithmetic for bfloat16; others imitate it, several times slower than float32.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps".

    Source: chapter 11.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    if device.type != "cpu":
        return True
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if "avx512_bf16" in known:
        return bool(known["avx512_bf16"] or known.get("amx_bf16"))
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def precision_on(device: str | torch.device, precision: str) -> str:
    """Return what a recipe's precision comes to on a device: "float32" where bfloat16 would be imitated."""
    return precision if has_bfloat16(device) else "float32"


def warn_of_imitation(device: torch.device, precision: str) -> None:
    """Warn where training is in another precision than the recipe's."""
    if precision_on(device, precision) != precision:
        warnings.warn(
            f"The recipe's precision is {precision}, which this device ({device.type}) can only imitate, several times "
            'slower. Training is in float32; with precision="float32" it is so without a warning.',
            stacklevel=4,
        )
