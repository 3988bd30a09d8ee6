"""Chapter 10: large maps made piece by piece, so that a cache can hold each."""

from __future__ import annotations

import math

import torch

AT_ONCE = 16 * 2**20
"""Bytes of a map that are made at once: half of the largest block that glibc ever keeps, and a cache may hold it."""


def count_pieces(x: torch.Tensor, channels: int) -> int:
    """In how many pieces to make a map with ``x``'s batch, height and width and this many channels.

    One away from the CPU, whose cache and allocator this is for; and one while a graph is recorded, which has to hold
    for other sizes too.

    Args:
        x: a map (B, C, H, W).
        channels: of the map to be made.

    Returns:
        As many as leave each at most ``AT_ONCE`` bytes.

    Source: built in chapter 10.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return 1
    return math.ceil(x[:, 0].nbytes * channels / AT_ONCE)
