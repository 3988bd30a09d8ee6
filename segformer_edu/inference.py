"""From a picture to its class map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from segformer_edu.data.pictures import normalize, open_picture, resize, to_tensor


def as_image(image: Image.Image | np.ndarray | torch.Tensor | str | Path) -> torch.Tensor:
    """Return a picture in any of the usual forms as colours (3, H, W) in [0, 1].

    Args:
        image: a path; a PIL image; an array (H, W, 3), (H, W, 4) or (H, W), bytes or values in [0, 1]; a tensor
            (3, H, W) or (1, 3, H, W), bytes or values in [0, 1].

    Raises:
        TypeError: something else.
        ValueError: a shape or a range of values other than these.
        FileNotFoundError: a path where there is nothing.
    """
    if isinstance(image, str | Path):
        return to_tensor(open_picture(image))
    if isinstance(image, Image.Image):
        return to_tensor(image)
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] not in (1, 3, 4)):
            raise ValueError(f"The array has shape {image.shape}; expected (H, W, 3), (H, W, 4) or (H, W).")
        image = torch.from_numpy(np.array(image)).view(*image.shape[:2], -1)[..., :3].permute(2, 0, 1)
        image = image.expand(3, -1, -1)  # one channel of grey, three of colour
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"The image is a {type(image).__name__}; expected a path, a PIL image, an array or a tensor.")
    image = image[0] if image.ndim == 4 and len(image) == 1 else image
    if image.ndim != 3 or len(image) != 3:
        raise ValueError(f"The tensor has shape {tuple(image.shape)}; expected one image, (3, H, W) or (1, 3, H, W).")
    values = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"The values run from {values.min():.3g} to {values.max():.3g}; expected bytes, or numbers in [0, 1]. "
            f"Don't normalise: segment does."
        )
    return values


@torch.inference_mode()
def segment(
    model: nn.Module,
    image: Image.Image | np.ndarray | torch.Tensor | str | Path,
    *,
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Give every pixel of a picture its class.

    Args:
        model: takes normalised images (1, 3, H, W), returns logits of any size.
        image: a path, a PIL image, an array (H, W, 3) or (H, W), or a tensor (3, H, W); see ``as_image``.
        size: (height, width) at which the model looks, such as it was trained at; the picture's own by default.

    Returns:
        Class numbers (H, W) of int64, on the CPU, in the picture's own size.

    Raises:
        TypeError, ValueError, FileNotFoundError: a picture that cannot be read; see ``as_image``.

    Source: chapter 7.
    """
    picture = as_image(image)
    device = next(model.parameters()).device
    looked_at = picture if size is None else resize(picture, size)
    training = model.training
    model.eval()
    try:
        logits = model(normalize(looked_at)[None].to(device))
    finally:
        model.train(training)
    logits = F.interpolate(logits, size=picture.shape[-2:], mode="bilinear")
    return logits.argmax(dim=1)[0].cpu()
