"""Augmentation: the same random zoom, shift and flip for a picture and its class map, and random light."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from segformer_edu.data.labels import VOID
from segformer_edu.validation import span


@dataclass(frozen=True)
class Augmentation:
    """Random zoom, crop, flip and light for a batch; each picture draws its own.

    Attributes:
        zoom: smallest and largest magnification, or one number for both; the paper resizes by 0.5 to 2.0.
        flip: probability of a mirror image.
        light: largest change of brightness and of contrast, as a fraction.

    Source: the paper, §4.1 (random resize, flip, crop); chapter 7.
    """

    zoom: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    light: float = 0.3

    def __post_init__(self) -> None:
        object.__setattr__(self, "zoom", span("zoom", self.zoom))

    def __call__(
        self, images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator, void: int = VOID
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change a batch: (B, C, H, W) in [0, 1] and whole numbers (B, H, W).

        What comes into view from outside is ``void``, which ``fit`` sets to its ``ignore_index``.

        Raises:
            TypeError: images of whole numbers, bytes say.
        """
        if not images.is_floating_point():
            raise TypeError(f"The images are {images.dtype}; expected floats in [0, 1]: images.float() / 255.")
        images, masks = images.to(torch.promote_types(images.dtype, torch.float32)), masks.long()
        batch = len(images)
        zoom, mirror, brightness, contrast, *shift = torch.rand(6, batch, generator=generator)
        low, high = self.zoom
        scale = 1 / (low * (high / low) ** zoom)  # what share of the picture is seen; the zoom's logarithm is uniform
        theta = torch.zeros(batch, 2, 3)
        theta[:, 0, 0] = torch.where(mirror < self.flip, -scale, scale)
        theta[:, 1, 1] = scale
        theta[:, :, 2] = (torch.stack(shift, dim=1) * 2 - 1) * (1 - scale).abs()[:, None]
        grid = F.affine_grid(theta, list(images.shape), align_corners=False).to(images)
        images = F.grid_sample(images, grid, align_corners=False)
        moved = F.grid_sample((masks[:, None] - void).to(grid), grid, mode="nearest", align_corners=False)
        light = [(1 + self.light * (2 * draw - 1)).view(-1, 1, 1, 1).to(images) for draw in (brightness, contrast)]
        middle = images.mean(dim=(1, 2, 3), keepdim=True)
        images = ((images - middle) * light[1] + middle) * light[0]
        return images.clamp(0, 1), moved[:, 0].round().long() + void
