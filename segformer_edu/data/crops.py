"""Augmentation for training in earnest: random crops at many scales, light, and pixels of other pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from segformer_edu.data.labels import VOID
from segformer_edu.data.pairs import checked_size
from segformer_edu.data.seeds import Draw
from segformer_edu.validation import check_not_negative, check_shares, span

Item = tuple[torch.Tensor, torch.Tensor]
TRIES = 10
"""How often a crop is drawn again while one class fills too much of it, in the paper's code."""


@dataclass(frozen=True)
class Crops:
    """Cut a crop of one size out of each picture of a batch, at a random scale, and change its light.

    Attributes:
        size: (height, width) of the crops, in pixels, or one number for both.
        scale: smallest and largest magnification, or one number for both; what lies outside of a picture is void.
        largest_share: of a crop's pixels that one class may have; the crop is drawn again, up to ten times.
        flip: probability of a mirror image.
        light: "none"; "distortion", the photometric distortion of the paper's code: brightness, contrast, saturation
            and hue; or "strong": gamma, gain of each channel, contrast, and shadows.
        rare: classes of few pixels.
        aim: probability that a crop is laid around a pixel of a rare class.
        paste: probability that the pixels of a rare class of another picture of the batch are pasted where they stood.
        mix: probability that those of half of another picture's classes are.

    Source: the paper, §4.1, and its code for scale, flip, crop, its largest share, and distortion; Olsson et al.,
    "ClassMix", 2021, for ``mix``; Ghiasi et al., "Simple Copy-Paste", 2021, for ``paste``. Chapter 11.
    """

    size: tuple[int, int] = (192, 256)
    scale: tuple[float, float] = (0.5, 2.0)
    largest_share: float = 0.75
    flip: float = 0.5
    light: str = "distortion"
    rare: tuple[int, ...] = ()
    aim: float = 0.0
    paste: float = 0.0
    mix: float = 0.0

    def __post_init__(self) -> None:
        size = checked_size(self.size)
        if size is None:
            raise TypeError("size is None; expected (height, width) of the crops in pixels, or one number for both.")
        rare = self.rare if isinstance(self.rare, Iterable) else (self.rare,)
        check_not_negative(**{f"rare[{index}]": label for index, label in enumerate(rare)})
        for name, value in {"size": size, "scale": span("scale", self.scale), "rare": tuple(map(int, rare))}.items():
            object.__setattr__(self, name, value)
        check_shares(flip=self.flip, aim=self.aim, paste=self.paste, mix=self.mix)
        if self.light not in LIGHTS:
            raise ValueError(f"light is {self.light!r}; expected one of {', '.join(LIGHTS)}.")

    def __call__(
        self, images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator, void: int = VOID
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change a batch: floats (B, C, H, W) in [0, 1] and class numbers (B, H, W) into crops.

        Raises:
            TypeError: images of whole numbers.
        """
        if not images.is_floating_point():
            raise TypeError(f"The images are {images.dtype}; expected floats in [0, 1]: images.float() / 255.")
        draw = Draw(generator)
        crops = []
        for index in range(len(images)):
            other = (index + 1 + draw.below(max(len(images) - 1, 1))) % len(images)
            item = self._pasted((images[index], masks[index]), (images[other], masks[other]), draw, void)
            image, mask = self._cropped(*item, draw, void)
            if draw.chance(self.flip):
                image, mask = image.flip(-1), mask.flip(-1)
            crops.append((LIGHTS[self.light](image, draw).clamp(0, 1), mask))
        return torch.stack([image for image, _ in crops]), torch.stack([mask for _, mask in crops])

    def _pasted(self, item: Item, other: Item, draw: Draw, void: int) -> Item:
        """Lay pixels of another picture's classes over a picture, where they stood."""
        mix, paste, mirror = draw.chance(self.mix), draw.chance(self.paste), draw.chance(self.flip)
        if not (mix or paste):
            return item
        image, mask = (value.flip(-1) for value in other) if mirror else other
        present = [number for number in mask.unique().tolist() if number != void]
        candidates = present if mix else [number for number in present if number in self.rare]
        chosen = [number for number in candidates if draw.chance(0.5)]
        over = torch.isin(mask, torch.tensor(chosen, dtype=mask.dtype, device=mask.device))
        return torch.where(over, image, item[0]), torch.where(over, mask, item[1])

    def _cropped(self, image: torch.Tensor, mask: torch.Tensor, draw: Draw, void: int) -> Item:
        """Cut a window out of a picture and bring it to the crops' size."""
        low, high = self.scale
        scale = low * (high / low) ** draw.uniform()
        seen = tuple(max(1, round(side / scale)) for side in self.size)
        aimed = draw.chance(self.aim) and self._target(mask, draw)
        for _ in range(TRIES):
            top, left = (
                start_of(draw, side, part, around)
                for side, part, around in zip(mask.shape, seen, aimed or (None, None))
            )
            window = mask[max(top, 0) : max(top, 0) + seen[0], max(left, 0) : max(left, 0) + seen[1]]
            if aimed or share_of_largest(window, void) < self.largest_share:
                break
        return resized(*window_of(image, mask, (top, left), seen, void), self.size)

    def _target(self, mask: torch.Tensor, draw: Draw) -> tuple[int, int] | None:
        """Draw a rare class that a picture has, and one of its pixels (row, column); None where it has none."""
        present = [number for number in self.rare if (mask == number).any()]
        if not present:
            return None
        places = (mask == present[draw.below(len(present))]).nonzero()
        row, column = places[draw.below(len(places))].tolist()
        return row, column


def start_of(draw: Draw, side: int, part: int, around: int | None) -> int:
    """Return where a part of a side begins: anywhere inside, or so that it holds the pixel ``around``.

    A part that is longer than the side lies over its middle.
    """
    if part >= side:
        return (side - part) // 2
    low, high = 0, side - part
    if around is not None:
        low, high = max(low, around - part + 1), min(high, around)
    return low + draw.below(high - low + 1)


def share_of_largest(mask: torch.Tensor, void: int) -> float:
    """Return which share of the pixels that have a class the most frequent one has; 1 where none has."""
    counts = mask[mask != void].unique(return_counts=True)[1]
    return (counts.max() / counts.sum()).item() if len(counts) else 1.0


def window_of(
    image: torch.Tensor, mask: torch.Tensor, start: tuple[int, int], size: tuple[int, int], void: int
) -> Item:
    """Cut a window out of a picture; outside of it is its mean colour, and void."""
    top, left = (max(value, 0) for value in start)
    bottom, right = (min(value + part, side) for value, part, side in zip(start, size, mask.shape))
    if (bottom - top, right - left) == size:
        return image[:, top:bottom, left:right], mask[top:bottom, left:right]
    wide = image.mean(dim=(1, 2), keepdim=True).expand(-1, *size).clone()
    empty = mask.new_full(size, void)
    place = (slice(top - start[0], bottom - start[0]), slice(left - start[1], right - start[1]))
    wide[:, place[0], place[1]] = image[:, top:bottom, left:right]
    empty[place] = mask[top:bottom, left:right]
    return wide, empty


def resized(image: torch.Tensor, mask: torch.Tensor, size: tuple[int, int]) -> Item:
    """Bring a picture to a size smoothly, its class map by the nearest pixel."""
    smaller = image.shape[-1] > size[1]
    image = F.interpolate(image[None], size, mode="bilinear", antialias=smaller)[0]
    return image, F.interpolate(mask[None, None].double(), size, mode="nearest-exact")[0, 0].to(mask.dtype)


def unchanged(image: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Leave the light as it is."""
    return image


def distortion(image: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Change brightness, contrast, saturation and hue as the paper's code does, each in half of all cases.

    Hue and saturation are changed in YIQ, where they are an angle and a length, not in HSV as there.
    """
    if draw.chance(0.5):
        image = image + draw.uniform(-32, 32) / 255
    if draw.chance(0.5):
        image = image * draw.uniform(0.5, 1.5)
    saturation = draw.uniform(0.5, 1.5) if draw.chance(0.5) else 1.0
    hue = draw.uniform(-18, 18) if draw.chance(0.5) else 0.0
    if len(image) != 3 or (saturation == 1 and hue == 0):
        return image
    angle = torch.deg2rad(torch.tensor(hue))
    turn = torch.eye(3)
    turn[1:, 1:] = saturation * torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    return torch.einsum("ij,jhw->ihw", (yiq.inverse() @ turn @ yiq).to(image), image)


def strong(image: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Change gamma, each channel's gain, contrast, and lay a shadow over a part, as dusk and clouds do."""
    image = image.clamp(0, 1)
    if draw.chance(0.8):
        image = image ** (2 ** draw.uniform(-1, 1))
    if draw.chance(0.8):
        gains = [2 ** draw.uniform(-0.5, 0.5) for _ in image]
        image = image * torch.tensor(gains).to(image)[:, None, None]
    if draw.chance(0.8):
        middle = image.mean()
        image = (image - middle) * draw.uniform(0.5, 1.5) + middle
    if draw.chance(0.3):
        image = shadowed(image, draw)
    if draw.chance(0.2):  # grey, in part
        image = torch.lerp(image, image.mean(dim=0, keepdim=True), draw.uniform())
    return image


def shadowed(image: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Darken one side of a random line."""
    height, width = image.shape[-2:]
    rows = torch.linspace(-1, 1, height)[:, None]
    columns = torch.linspace(-1, 1, width)
    angle = torch.tensor(draw.uniform(0, 6.283185307179586))
    side = rows * angle.sin() + columns * angle.cos() > draw.uniform(-0.5, 0.5)
    return torch.where(side.to(image.device), image * draw.uniform(0.4, 0.9), image)


LIGHTS = {"none": unchanged, "distortion": distortion, "strong": strong}
