"""Chapter 1: the depthwise separable convolution."""

from __future__ import annotations

import torch
from torch import nn

from segformer_edu.arguments import check_map, check_not_negative, check_positive


class DsConv2d(nn.Module):
    """A depthwise separable convolution: one filter a channel, then a 1×1 convolution that mixes the channels.

    Args:
        dim_in: channels of the input.
        dim_out: channels of the output.
        kernel_size: side of the depthwise filters, in pixels.
        padding: rows and columns of zeros added on each side, in pixels.
        stride: step of the depthwise filters, in pixels.
        bias: whether both convolutions add a bias.

    Shapes: (B, dim_in, H, W) → (B, dim_out, H', W') with H' = (H + 2·padding - kernel_size) // stride + 1.

    Raises:
        TypeError, ValueError: an input that is no floating-point map with ``dim_in`` channels.

    Source: the sketch (lucidrains' ``DsConv2d``); Chollet, "Xception", 2017. Built in chapter 1.
    """

    def __init__(
        self, dim_in: int, dim_out: int, kernel_size: int, padding: int, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        check_positive(dim_in=dim_in, dim_out=dim_out, kernel_size=kernel_size, stride=stride)
        check_not_negative(padding=padding)
        self.dim_in, self.smallest = dim_in, max(1, kernel_size - 2 * padding)
        self.net = nn.Sequential(
            nn.Conv2d(dim_in, dim_in, kernel_size, padding=padding, stride=stride, groups=dim_in, bias=bias),
            nn.Conv2d(dim_in, dim_out, kernel_size=1, bias=bias),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_map(x, self.dim_in, smallest=self.smallest)
        return self.net(x)
