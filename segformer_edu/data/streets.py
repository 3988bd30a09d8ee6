"""Chapter 12: streets drawn on the fly, in CamVid's classes, for readers who have no CamVid."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from segformer_edu.data.camvid import CLASSES
from segformer_edu.data.seeds import Draw, seeded_generator
from segformer_edu.validation import check_positive

TYPICAL = {
    "sky": (0.80, 0.86, 0.92),
    "building": (0.46, 0.42, 0.38),
    "pole": (0.30, 0.30, 0.30),
    "road": (0.30, 0.31, 0.33),
    "pavement": (0.47, 0.45, 0.45),
    "tree": (0.27, 0.29, 0.20),
    "sign": (0.75, 0.72, 0.60),
    "fence": (0.24, 0.22, 0.22),
    "car": (0.20, 0.24, 0.34),
    "pedestrian": (0.18, 0.17, 0.20),
    "cyclist": (0.35, 0.24, 0.22),
}
"""Red, green and blue of each class."""
THINGS = {
    "fence": (1.15, 0.40, 0.30),
    "tree": (1.25, 0.80, 1.30),
    "car": (0.50, 0.45, 0.34),
    "pedestrian": (1.00, 0.10, 0.45),
    "cyclist": (0.65, 0.14, 0.42),
    "pole": (0.95, 0.03, 1.10),
}
"""How far each thing stands from the middle of the road, its width and its height, as seen at the lower edge."""
ROUND = {"tree", "pedestrian", "cyclist"}
SPREAD = 0.05


class Canvas:
    """A picture and its class map that are painted on, what comes later in front.

    Args:
        size: (height, width), in pixels.
        generator: of all that is left to chance.

    Attributes:
        draw: random numbers out of the generator.
        image: (3, H, W), values around [0, 1].
        mask: (H, W) of int64.
        y: the rows' heights, (H, 1), from 0 at the top to 1.
        x: the columns' places, (1, W), from 0 to 1.
    """

    def __init__(self, size: tuple[int, int], generator: torch.Generator) -> None:
        self.draw = Draw(generator)
        self.image = torch.zeros(3, *size)
        self.mask = torch.zeros(size, dtype=torch.long)
        self.y, self.x = torch.linspace(0, 1, size[0])[:, None], torch.linspace(0, 1, size[1])[None]

    def fill(self, name: str, inside: torch.Tensor, shade: torch.Tensor | float = 0.0) -> None:
        """Give the places ``inside``, (H, W) or what broadcasts to it, a class and its colour, mottled and shaded."""
        colour = torch.tensor(TYPICAL[name]) + self.draw.uniform(-SPREAD, SPREAD)
        blotches = SPREAD * torch.randn(1, 1, 12, 16, generator=self.draw.generator)
        surface = F.interpolate(blotches, size=self.mask.shape, mode="bicubic")[0] + colour.view(3, 1, 1) + shade
        self.image = torch.where(inside, surface, self.image)
        self.mask = torch.where(inside, list(CLASSES).index(name), self.mask)


def drawn_street(index: int, size: tuple[int, int] = (360, 480)) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a street that runs away from the viewer: houses, trees, cars and people, in all of CamVid's classes.

    It stands in where a chapter shows what it measures on CamVid and CamVid is not at hand. It is no street that a
    model could learn from, and one that was trained on photographs is wrong about much of it.

    Args:
        index: from 0 on; another index is another street, the same index always the same.
        size: (height, width), in pixels.

    Returns:
        An image (3, H, W) in [0, 1] and its class map (H, W) of int64, numbered as CamVid's.

    Raises:
        TypeError, ValueError: a size that is no positive whole numbers.

    Source: made for this book; used in chapter 12.
    """
    check_positive(height=size[0], width=size[1])
    canvas = Canvas(size, seeded_generator(12, index))
    horizon, middle = canvas.draw.uniform(0.40, 0.50), canvas.draw.uniform(0.42, 0.58)
    draw_surfaces(canvas, horizon, middle)
    names = [name for name in THINGS for _ in range(2)]
    depths = sorted(canvas.draw.uniform(0.15, 0.8) for _ in names)
    order = torch.randperm(len(names), generator=canvas.draw.generator).tolist()
    for depth, chosen in zip(depths, order):  # what is far away first
        draw_thing(canvas, names[chosen], depth, horizon, middle)
    noise = 0.02 * torch.randn(canvas.image.shape, generator=canvas.draw.generator)
    return (canvas.image + noise).clamp(0, 1), canvas.mask


def draw_surfaces(canvas: Canvas, horizon: float, middle: float) -> None:
    """Paint sky, ground, houses with windows and the road, which all meet at one point of the horizon."""
    below, beside = canvas.y - horizon, (canvas.x - middle).abs()
    canvas.fill("sky", below < 1, shade=0.1 * canvas.y)
    canvas.fill("pavement", below > 0)
    slope = below / beside.clamp(min=1e-3)
    roof = canvas.draw.uniform(0.7, 1.1)
    windows = (canvas.x - middle).abs().clamp(min=1e-3).log().mul(5).frac().abs() < 0.5
    windows = windows & (slope.mul(5).frac().abs() < 0.5) & (slope < 0.1)
    canvas.fill("building", (slope > -roof) & (slope < 0.3) & (beside > 0.04), shade=-0.2 * windows.float())
    canvas.fill("road", (below > 0) & (beside < 1.5 * below + 0.01))


def draw_thing(canvas: Canvas, name: str, depth: float, horizon: float, middle: float) -> None:
    """Paint one of ``THINGS`` on one side of the road; ``depth`` is 0 at the horizon and 1 at the lower edge."""
    aside, width, height = THINGS[name]
    side = 1 if canvas.draw.uniform(0, 1) < 0.5 else -1
    x, bottom = middle + side * aside * depth, horizon + (1 - horizon) * depth
    u, v = (canvas.x - x) / (width * depth), (bottom - canvas.y) / (height * depth)
    disc, box = (2 * u) ** 2 + (2 * v - 1) ** 2 < 1, (u.abs() < 0.5) & (v > 0) & (v < 1)
    canvas.fill(name, disc if name in ROUND else box)
    if name == "pole":
        canvas.fill("sign", (u.abs() < 2.5) & (v > 0.8) & (v < 1))
