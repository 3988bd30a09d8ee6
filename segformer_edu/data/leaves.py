"""Leaves: a folder of pictures and class maps, drawn and written as somebody's own data would lie there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from segformer_edu.data.seeds import Draw, seeded_generator
from segformer_edu.validation import check_positive

CLASSES = ("ground", "leaf", "rust", "mildew", "mine")
"""What a pixel can be; a mine is the pale tunnel that a larva eats into a leaf."""
COLOURS = ("#DDDDDD", "#009E73", "#D55E00", "#0072B2", "#F0E442")
UNSURE = 9
"""The number that a tool for labelling writes where the person was not sure, and forgets to say so."""
GROUNDS = ((0.36, 0.27, 0.20), (0.62, 0.53, 0.40), (0.45, 0.45, 0.46), (0.30, 0.33, 0.20))  # soil, sand, stone, moss
REACH, CELLS = 1.8, 448
"""How far a plant's surroundings are drawn, where its leaf reaches from -1 to 1, and in how many cells on a side."""
FINE = 2  # points that are looked at for a pixel of a picture, in each direction
Size = tuple[float, float]


def write_leaves(
    folder: str | Path, plants: int = 16, *, views: int = 3, size: int = 160, seed: int = 0, spoiled: bool = False
) -> Path:
    """Draw photographs of leaves, and write them and their class maps: images/plant03-1.jpg, masks/plant03-1.png.

    Each plant has one leaf, which is photographed several times, from near and far, turned, in other light. Plants
    differ: in their green, their shape, the ground that they lie on, the colour of their rust. Two thirds have rust,
    half have mildew, a third have mines. Pebbles have the colour of rust, reflections that of mildew, veins that of
    mines: colour alone does not tell them apart.

    Args:
        folder: to write to; it is made if need be.
        plants: how many.
        views: pictures of each.
        size: height and width of a picture, in pixels, from 32 up.
        seed: another seed, other plants.
        spoiled: whether to spoil five files, as happens on the way to a data set; see ``spoil``.

    Returns:
        The folder.

    Raises:
        TypeError, ValueError: numbers that are no positive whole ones, a size below 32, too few pictures to spoil.

    Source: made for this book; chapter 13.
    """
    check_positive(plants=plants, views=views, size=size)
    if size < 32:
        raise ValueError(f"size is {size}; expected at least 32, the smallest image that the encoder takes.")
    if spoiled and plants * views < 11:
        raise ValueError(f"{plants} plants in {views} views are {plants * views} pictures; expected 11 to spoil five.")
    folder = Path(folder)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number in range(plants):
        plant = Plant.draw(seeded_generator(seed, number))
        for view in range(views):
            image, mask = plant.photograph(size, seeded_generator(seed, (number + 1) * 1000 + view))
            name = f"plant{number:02}-{view + 1}"
            pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(folder / "images" / f"{name}.jpg", quality=92)
            Image.fromarray(mask.byte().numpy()).save(folder / "masks" / f"{name}.png")
    if spoiled:
        spoil(folder)
    return folder


def spoil(folder: Path) -> None:
    """Spoil five of a folder's files: four that an examination finds, and one that only a look, or a model, does.

    A class map is saved as JPEG; one is exported at half its size; one has the number ``UNSURE``, which is no class;
    one is deleted; and one is mirrored.
    """
    masks = sorted((folder / "masks").glob("*.png"))
    as_jpeg, halved, unsure, deleted, mirrored = (masks[len(masks) * part // 11] for part in (1, 3, 5, 7, 9))
    Image.open(as_jpeg).save(as_jpeg.with_suffix(".jpg"), quality=90)
    as_jpeg.unlink()
    small = Image.open(halved)
    small.resize((small.width // 2, small.height // 2), Image.Resampling.NEAREST).save(halved)
    marked = Image.open(unsure)
    marked.paste(UNSURE, (8, 8, 8 + marked.width // 5, 8 + marked.height // 6))
    marked.save(unsure)
    deleted.unlink()
    Image.open(mirrored).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)


@dataclass(frozen=True)
class Plant:
    """A leaf on the ground, seen from straight above.

    Attributes:
        colours: (3, CELLS, CELLS); the leaf's midrib runs along the rows.
        classes: class numbers, (CELLS, CELLS).
    """

    colours: torch.Tensor
    classes: torch.Tensor

    @classmethod
    def draw(cls, generator: torch.Generator) -> Plant:
        """Draw a plant: the ground, the leaf upon it, and what ails the leaf."""
        draw = Brush(generator)
        colours, classes = ground(draw), torch.zeros(CELLS, CELLS, dtype=torch.long)
        leaf, shadow, across = outline(draw)
        colours = torch.where(leaf, blade(draw, across), colours * (1 - 0.45 * shadow.float()))
        classes[leaf] = CLASSES.index("leaf")
        for name, colour, cover, inside in ailments(draw):
            here = inside & leaf
            colours = torch.where(here, torch.lerp(colours, colour.view(3, 1, 1).expand_as(colours), cover), colours)
            classes[here] = CLASSES.index(name)
        return cls(colours, classes)

    def photograph(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a picture, (3, size, size) in [0, 1], and its class map (size, size): anyhow turned, near or far."""
        draw = Brush(generator)
        axis = torch.linspace(-1, 1, FINE * size)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))  # (2, H, W): to the right, down
        shift, bright = torch.tensor([[draw.uniform(-0.25, 0.25)] for _ in range(2)]), direction(draw)
        places = direction(draw, turn=True) @ (grid.flatten(1) - shift) / draw.uniform(0.85, 1.35)
        places = (places / REACH).T.view(1, FINE * size, FINE * size, 2)
        colours = F.grid_sample(self.colours[None], places, padding_mode="reflection", align_corners=False)[0]
        classes = F.grid_sample(self.classes[None, None].float(), places, mode="nearest", align_corners=False)[0, 0]
        slope = (grid * bright).sum(0)
        shine = (draw.noise(9, FINE * size) + slope - 0.9).clamp(0, 1) * (classes > 0)
        colours = (colours + 0.55 * shine) * (draw.uniform(0.75, 1.25) + 0.18 * slope)
        image = F.avg_pool2d(colours[None], FINE)
        if draw.uniform() < 0.5:  # out of focus
            image = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        image = image[0] + 0.025 * torch.randn(3, size, size, generator=generator)
        return image.clamp(0, 1), classes[FINE // 2 :: FINE, FINE // 2 :: FINE].long()


class Brush(Draw):
    """What a plant and a picture are drawn with, out of one generator."""

    def noise(self, waves: int, side: int = CELLS) -> torch.Tensor:
        """Return smooth noise (side, side), of a variance below 1, with about so many waves on a side."""
        coarse = torch.randn(1, 1, waves, waves, generator=self.generator)
        return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)[0, 0]

    def spots(self, count: int, radii: Size, reach: Size, rough: float) -> torch.Tensor:
        """Return how far inside of some rough spots each place lies, negative outside, (CELLS, CELLS).

        Args:
            count: of the spots.
            radii: the smallest and the largest.
            reach: how far from the middle their centres lie, along the rows and across.
            rough: how far their edges are moved to and fro.
        """
        depth, edge = torch.full((CELLS, CELLS), -1.0), rough * self.noise(110)
        for _ in range(count):
            along, across = (self.uniform(-far, far) for far in reach)
            radius = self.uniform(*radii)
            place = around((along, across), radius + 4 * rough)
            x, y = (each[place] for each in axes())
            inside = radius + edge[place] - torch.hypot(x - along, y - across)
            depth[place] = torch.maximum(depth[place], inside)
        return depth

    def tunnels(self, count: int, width: float) -> torch.Tensor:
        """Return whether a place lies on one of some winding tunnels, (CELLS, CELLS)."""
        found = torch.zeros(CELLS, CELLS, dtype=torch.bool)
        for _ in range(count):
            along, across, angle = self.uniform(-0.6, 0.6), self.uniform(-0.15, 0.15), self.uniform(0, 6.28)
            for _ in range(50):
                angle += self.uniform(-0.8, 0.8)
                along, across = along + 0.024 * math.cos(angle), across + 0.024 * math.sin(angle)
                place = around((along, across), width)
                x, y = (each[place] for each in axes())
                found[place] |= torch.hypot(x - along, y - across) < width
        return found


def axes() -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each cell how far it is from the middle along the rows, and across: (CELLS, CELLS) twice."""
    axis = torch.linspace(-REACH, REACH, CELLS)
    return axis.expand(CELLS, CELLS), axis[:, None].expand(CELLS, CELLS)


def around(centre: Size, radius: float) -> tuple[slice, slice]:
    """Return the rows and columns of cells that are within a distance of a place."""
    x, y = (round((value / REACH + 1) * CELLS / 2) for value in centre)
    reach = math.ceil(radius / REACH * CELLS / 2) + 1
    return slice(max(0, y - reach), max(0, y + reach)), slice(max(0, x - reach), max(0, x + reach))


def direction(draw: Brush, turn: bool = False) -> torch.Tensor:
    """Draw a direction (2, 1, 1), or the matrix (2, 2) of a turn by it."""
    angle = draw.uniform(0, 2 * math.pi)
    cosine, sine = math.cos(angle), math.sin(angle)
    return torch.tensor([[cosine, sine], [-sine, cosine]]) if turn else torch.tensor([cosine, sine]).view(2, 1, 1)


def ground(draw: Brush) -> torch.Tensor:
    """Draw what lies below a leaf, with pebbles of about rust's colour: (3, CELLS, CELLS)."""
    colour = torch.tensor(GROUNDS[int(draw.uniform(0, len(GROUNDS)))]) + draw.uniform(-0.06, 0.06)
    coarse, fine = draw.noise(50), draw.noise(190)
    below = colour.view(3, 1, 1) * (1 + 0.16 * fine + 0.12 * coarse)
    pebbles = torch.tensor([0.50, 0.32, 0.17]).view(3, 1, 1) * (0.9 + 0.15 * coarse)
    return torch.where(draw.spots(40, (0.02, 0.08), (REACH, REACH), 0.01) > 0, pebbles, below)


def outline(draw: Brush) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw the outline of a leaf: which cells lie on it, which in its shadow, and how far off its midrib each is."""
    width, bend, skew = draw.uniform(0.30, 0.55), draw.uniform(-0.25, 0.25), draw.uniform(-0.3, 0.3)
    x, y = axes()
    across = y - bend * (x**2 - 0.5)
    half = width * (1 - x**2).clamp(min=0) ** 0.7 * (1 + skew * x) + 0.012 * torch.sin(40 * x)
    leaf = (across.abs() < half) & (x.abs() < 1)
    off = round(0.06 / REACH * CELLS / 2)
    return leaf, leaf.roll((off, off), dims=(0, 1)), across


def blade(draw: Brush, across: torch.Tensor) -> torch.Tensor:
    """Draw the green of a leaf with its pale veins: (3, CELLS, CELLS)."""
    age = draw.uniform()
    green = torch.tensor([0.18 + 0.34 * age, 0.40 + 0.16 * age, 0.14 + 0.10 * draw.uniform()]).view(3, 1, 1)
    ribs = (draw.uniform(5, 9) * (axes()[0] - 0.6 * across.abs())) % 1.0
    pale = ((across.abs() < 0.022) | (ribs < 0.10)).float() * draw.uniform(0.05, 0.16)
    return green * (1 + 0.10 * draw.noise(50) + 0.05 * draw.noise(190)) + pale


def ailments(draw: Brush) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Draw what ails a leaf: for each its class, its colour (3,), how much it covers, and which cells it is on."""
    ripe = draw.uniform()
    rusty, mildewed, mined = (draw.uniform() < share for share in (0.67, 0.5, 0.34))
    patches = draw.spots(int(draw.uniform(2, 5)) * mildewed, (0.10, 0.22), (0.85, 0.30), 0.04)
    yield "mildew", torch.tensor([0.80, 0.82, 0.78]), 0.45 + 0.25 * draw.noise(190).clamp(-1, 1), patches > 0
    yield "mine", torch.tensor([0.78, 0.76, 0.55]), torch.tensor(0.7), draw.tunnels(2 * mined, 0.022)
    rust = torch.lerp(torch.tensor([0.80, 0.48, 0.12]), torch.tensor([0.34, 0.17, 0.10]), ripe)
    spots = draw.spots(int(draw.uniform(6, 22)) * rusty, (0.025, 0.075), (0.85, 0.35), 0.012)
    yield "rust", rust, 0.75 + 0.2 * torch.sign(0.02 - spots), spots > 0
