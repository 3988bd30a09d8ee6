"""Chapter 1: the depthwise separable convolution."""

from __future__ import annotations

import torch
from torch import nn


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

    Source: the sketch (lucidrains' ``DsConv2d``); Chollet, "Xception", 2017. Built in chapter 1.
    """

    def __init__(
        self, dim_in: int, dim_out: int, kernel_size: int, padding: int, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(dim_in, dim_in, kernel_size, padding=padding, stride=stride, groups=dim_in, bias=bias),
            nn.Conv2d(dim_in, dim_out, kernel_size=1, bias=bias),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)
