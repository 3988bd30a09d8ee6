"""Chapters 3, 5, 6 and 12: what a model does to a real picture inside, and how it is drawn.

Chapter 12 builds ``shares_of``, ``attention_shares`` and ``receptive_fields``, and imports the rest as the others do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from matplotlib.axes import Axes

YELLOW = (0.94, 0.89, 0.26)


def features_by_hand(image: torch.Tensor) -> torch.Tensor:
    """Twelve features that can be read, in three groups of four, each group a vector of length 1 at every pixel.

    Colour: lightness, red against green, blue against yellow, a constant. Texture: how strongly the brightness changes
    sideways and downwards, in 3×3 and in 9×9 pixels. Place: row and column, each as a point on a half circle.

    Shapes: (1, 3, H, W), values in [0, 1] → (1, 12, H, W).

    Source: made for chapter 3.
    """
    red, green, blue = image.split(1, dim=1)
    opponents = torch.cat([red + green + blue, red - green, 2 * blue - red - green], dim=1)
    colour = torch.cat([standard(opponents), torch.ones_like(red)], dim=1)

    grey = F.pad(image.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across, down = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    edges = torch.cat([across, down], dim=1).abs()
    averages = [F.avg_pool2d(F.pad(edges, (s // 2,) * 4, mode="replicate"), s, stride=1) for s in (3, 9)]
    texture = standard((torch.cat(averages, dim=1) + 0.003).log())

    rows, columns = (torch.linspace(0, math.pi, side) for side in image.shape[-2:])
    rows, columns = rows[:, None].expand(image.shape[-2:]), columns.expand(image.shape[-2:])
    place = torch.stack([rows.cos(), rows.sin(), columns.cos(), columns.sin()])[None]
    return torch.cat([F.normalize(group, dim=1) for group in (colour, texture, place)], dim=1)


def standard(x: torch.Tensor) -> torch.Tensor:
    """Each channel of a map (B, C, H, W) with mean 0 and standard deviation 1."""
    return (x - x.mean(dim=(-2, -1), keepdim=True)) / x.std(dim=(-2, -1), keepdim=True)


def ring(axis: Axes, row: float, column: float, letter: str = "") -> None:
    """Draw a ring, white on black, at a place of a picture, and a letter beside it."""
    for colour, width in (("black", 4), ("white", 2)):
        axis.plot(column, row, "o", markersize=9, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=width)
    axis.text(column + 8, row + 3, letter, color="white", fontsize=15, fontweight="bold")


def lit(picture: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Darken a picture and light each cell with yellow by the root of its share; the root keeps small shares visible.

    Args:
        picture: values in [0, 1].
        share: of the attention, one a cell.

    Shapes: (3, H, W), (h, w) → (3, H, W).
    """
    strength = 0.9 * F.interpolate((share / share.max()).sqrt()[None, None], size=picture.shape[-2:])[0]
    return picture * (1 - strength) / 2 + torch.tensor(YELLOW)[:, None, None] * strength


def half(share: torch.Tensor) -> int:
    """How many cells hold half of a whole: the largest ones, counted until their shares add up to 1/2."""
    return int((share.flatten().sort(descending=True).values.cumsum(dim=0) < 0.5).sum()) + 1


@torch.no_grad()
def attention_shares(encoder: Any, x: torch.Tensor) -> dict[tuple[int, int], torch.Tensor]:
    """Where each pixel of each map looks while an encoder of the paper's form sees one image.

    The attention itself never forms the shares. Here they are computed again from the input of each attention.

    Args:
        encoder: a ``MiT`` whose attention is ``SpatialReductionAttention``.
        x: a normalised image, (1, C, H, W).

    Returns:
        For each (stage, layer), both counted from 1, the shares: (heads, H, W, rows of keys, columns of keys).

    Built in chapter 12.
    """
    seen = {}
    for stage, part in enumerate(encoder.stages, start=1):
        x = part.embedding(x)
        for layer, block in enumerate(part.blocks, start=1):
            seen[stage, layer] = shares_of(block.attention, block.attention_norm(x))
            x = block(x)
        x = part.norm(x)
    return seen


def shares_of(attention: Any, x: torch.Tensor) -> torch.Tensor:
    """The shares of one attention, (1, C, H, W) → (heads, H, W, rows of keys, columns of keys). Built in chapter 12."""
    small = attention.reduce(x)
    q, k = attention.to_q(x), attention.to_kv(small).chunk(2, dim=1)[0]
    q, k = (rearrange(t, "1 (heads c) h w -> heads (h w) c", heads=attention.heads) for t in (q, k))
    shares: torch.Tensor = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return shares.reshape(attention.heads, *x.shape[-2:], *small.shape[-2:])


def receptive_fields(encoder: Callable[..., list[torch.Tensor]], images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """How strongly each pixel of the image moves the centre of each map: the effective receptive fields.

    The channels of the centre get random signs, and the gradient of their sum is taken: on average its square is the
    sum of the channels' squares. Squares are averaged over images and summed over their channels.

    Args:
        encoder: called with ``return_layer_outputs=True``, it returns its maps.
        images: normalised; they go through the encoder one by one.
        seed: of the signs.

    Shapes: (B, C, H, W) → (maps, H, W).

    Source: Luo et al., 2016. Built in chapter 12.
    """
    generator = torch.Generator().manual_seed(seed)
    squares = torch.zeros(())
    for image in images.detach().split(1):
        image.requires_grad_()
        fields = []
        for features in encoder(image, return_layer_outputs=True):
            centre = features[0, :, features.shape[-2] // 2, features.shape[-1] // 2]  # (C,)
            signs = 2.0 * torch.randint(2, centre.shape, generator=generator) - 1
            (gradient,) = torch.autograd.grad((signs * centre).sum(), image, retain_graph=True)
            fields.append(gradient[0].square().sum(dim=0))
        squares = squares + torch.stack(fields) / len(images)
    return squares.sqrt()


def decades(field: torch.Tensor, lowest: int = -5) -> torch.Tensor:
    """A field over its maximum, as a power of ten, cut off at ``lowest``."""
    return (field / field.max()).clamp(min=10.0**lowest).log10()
