"""Shapes: pictures drawn on the fly, so that everything can be trained without a download."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from segformer_edu.data.seeds import seeded_generator
from segformer_edu.validation import check_positive

SIDES = (None, None, 4, 3)  # of the background, which has no outline, of discs, which have no sides, and so on
CLASSES = ("background", "disc", "square", "triangle")
TYPICAL = ((0.5, 0.5, 0.5), (0.35, 0.5, 0.75), (0.75, 0.6, 0.35), (0.4, 0.7, 0.45))  # red, green, blue of each class
SPREAD = 0.04
COLOURS = ("#DDDDDD", "#0072B2", "#E69F00", "#009E73")


def inside_polygon(grid: torch.Tensor, sides: int | None, radius: float, angle: float) -> torch.Tensor:
    """Say which points lie in a regular polygon around the origin.

    Args:
        grid: the points' coordinates (2, H, W).
        sides: of the polygon; None is a disc.
        radius: of the disc of the same area, in the grid's unit: so no class is told by its size.
        angle: of the polygon, in radians.

    Returns:
        Booleans (H, W).
    """
    if sides is None:
        distances: torch.Tensor = grid.norm(dim=0)
        return distances < radius
    apothem = radius * math.sqrt(math.pi / (sides * math.tan(math.pi / sides)))
    turns = (angle + index * 2 * math.pi / sides for index in range(sides))
    edges = [grid[0] * math.cos(turn) + grid[1] * math.sin(turn) < apothem for turn in turns]
    return torch.stack(edges).all(dim=0)


class Shapes(Dataset):
    """Discs, squares and triangles of any size and angle, overlapping, before a grey background, all of it mottled.

    Discs tend to be blue, squares ochre, triangles green, but colours vary so much that they overlap: a pixel's own
    colour is a hint, its neighbours' another, the outline decides. Area says nothing about the class. Every picture is
    drawn from ``seed`` and its index, always the same.

    Args:
        length: how many pictures there are.
        size: height and width of each, in pixels, from 32 up.
        seed: another seed, other pictures: take one for training and another for validation.

    Items: an image (3, size, size) in [0, 1] and its class map (size, size) of int64.

    Raises:
        TypeError, ValueError: a length or size that is no positive whole number, or a size below 32.
        IndexError: an index beyond the length.

    Source: made for this book; used from chapter 7 on.
    """

    classes = CLASSES
    colours = COLOURS

    def __init__(self, length: int = 1000, size: int = 64, seed: int = 0) -> None:
        check_positive(length=length, size=size)
        if size < 32:
            raise ValueError(f"size is {size}; expected at least 32, the smallest image that the encoder takes.")
        self.length, self.size, self.seed = length, size, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is out of range; there are {self.length} pictures, from 0 on.")
        generator = seeded_generator(self.seed, index)
        image = self.surface(0, generator)
        mask = torch.zeros(self.size, self.size, dtype=torch.long)
        axis = torch.arange(self.size, dtype=torch.float) / self.size
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))  # (2, size, size), in pictures' sides
        for _ in range(int(torch.randint(2, 6, (), generator=generator))):
            label = int(torch.randint(1, len(CLASSES), (), generator=generator))
            row, column, extent, turn = torch.rand(4, generator=generator).tolist()
            centre = torch.tensor([row, column]).view(2, 1, 1)
            inside = inside_polygon(grid - centre, SIDES[label], 0.12 + 0.14 * extent, 2 * math.pi * turn)
            image = torch.where(inside, self.surface(label, generator), image)
            mask[inside] = label
        noise = 0.15 * torch.randn(image.shape, generator=generator)
        return (image + noise).clamp(0, 1), mask

    def surface(self, label: int, generator: torch.Generator) -> torch.Tensor:
        """Return a class's typical colour, varied as a whole and in soft blotches, (3, size, size)."""
        colour = torch.tensor(TYPICAL[label]) + SPREAD * torch.randn(3, generator=generator)
        blotches = SPREAD * torch.randn(1, 3, 5, 5, generator=generator)
        return colour.view(3, 1, 1) + F.interpolate(blotches, size=(self.size, self.size), mode="bicubic")[0]
