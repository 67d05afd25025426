"""The two small networks of the demo bundle, in PyTorch.

Both take (N, 2, Z, Y, X) float32, T1 then T2, and return logits. BatchNorm and ReLU only: they fold away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 25


def _block(inputs: int, outputs: int, kernel: tuple[int, int, int] = (3, 3, 3)) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, padding=padding, bias=False), nn.BatchNorm3d(outputs), nn.ReLU()
    )


class NpcNet(nn.Module):
    """Anisotropic U-Net of about 1 M parameters with three outputs.

    tumour (N, 1, Z, Y, X), anatomy (N, 25, Z, Y/2, X/2) in training and (N, 25, Z, Y, X) in eval mode,
    detection (N, 1). Z a multiple of 4, Y and X of 16. In-plane pixels are folded into channels two by two
    at the door and unfolded for the tumour: nothing is lost, and no layer pays for the full grid.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        a, b, c, d = width, 2 * width, 3 * width, 4 * width
        plane = (1, 3, 3)
        self.first = nn.Sequential(_block(8, a, plane), _block(a, a))
        self.second = nn.Sequential(_block(a, b), _block(b, b))
        self.third = nn.Sequential(_block(b, c), _block(c, c))
        self.fourth = nn.Sequential(_block(c, d), _block(d, d))
        self.up_third = _block(d + c, c)
        self.up_second = nn.Sequential(_block(c + b, b, plane), _block(b, b, plane))
        self.up_first = nn.Sequential(_block(b + a, a, plane), _block(a, a, plane))
        self.tumour = nn.Conv3d(a, 4, (1, 3, 3), padding=(0, 1, 1))
        self.anatomy = nn.Conv3d(a, CLASSES, 1)
        self.judge = nn.Sequential(nn.Linear(d + 4, 24), nn.ReLU(), nn.Linear(24, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = self.first(_fold(image))
        second = self.second(F.max_pool3d(first, (1, 2, 2)))
        third = self.third(F.max_pool3d(second, 2))
        deep = self.fourth(F.max_pool3d(third, 2))
        up = self.up_third(torch.cat([_grow(deep, 2.0, 2.0), third], 1))
        up = self.up_second(torch.cat([_grow(up, 2.0, 2.0), second], 1))
        up = self.up_first(torch.cat([_grow(up, 1.0, 2.0), first], 1))
        tumour = _unfold(self.tumour(up))
        anatomy = self.anatomy(up)
        if not self.training:
            anatomy = F.interpolate(
                anatomy, scale_factor=(1.0, 2.0, 2.0), mode="trilinear", align_corners=False
            )
        return tumour, anatomy, self._detection(tumour, deep)

    def _detection(self, tumour: Tensor, deep: Tensor) -> Tensor:
        """From how much tumour is seen, in all and in one place, and what the deepest features say."""
        seen = torch.sigmoid(tumour.float())
        pooled = F.avg_pool3d(seen, (2, 8, 8), (1, 4, 4))
        near = F.avg_pool3d(seen, (4, 16, 16), (2, 8, 8))
        facts = [
            torch.log1p(seen.mean((1, 2, 3, 4)) * 2e3),
            torch.log1p(torch.relu(seen - 0.4).mean((1, 2, 3, 4)) * 2e3),
            pooled.amax((1, 2, 3, 4)),
            near.amax((1, 2, 3, 4)),
        ]
        features = torch.cat([torch.stack(facts, 1), deep.float().mean((2, 3, 4))], 1)
        return self.judge(features)  # type: ignore[no-any-return]


def _fold(full: Tensor) -> Tensor:
    """(N, C, Z, Y, X) → (N, 4C, Z, Y/2, X/2): in-plane space to channels, nothing lost."""
    n, c, z, y, x = full.shape
    parts = full.reshape(n, c, z, y // 2, 2, x // 2, 2).permute(0, 1, 4, 6, 2, 3, 5)
    return parts.reshape(n, 4 * c, z, y // 2, x // 2)


def _unfold(parts: Tensor) -> Tensor:
    """(N, 4, Z, Y, X) → (N, 1, Z, 2Y, 2X): the way back of `_fold`."""
    n, _, z, y, x = parts.shape
    return parts.reshape(n, 2, 2, z, y, x).permute(0, 3, 4, 1, 5, 2).reshape(n, 1, z, 2 * y, 2 * x)


def _grow(coarse: Tensor, z: float, yx: float) -> Tensor:
    return F.interpolate(coarse, scale_factor=(z, yx, yx), mode="nearest")


class LocatorNet(nn.Module):
    """Where the nasopharynx is, on a coarse grid: heatmap logits (N, 1, Z, Y, X), Z, Y, X multiples of 8."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        a, b, c = width, 2 * width, 3 * width
        self.one = nn.Sequential(_block(2, a), _block(a, a))
        self.two = nn.Sequential(_block(a, b), _block(b, b))
        self.three = nn.Sequential(_block(b, c), _block(c, c))
        self.four = nn.Sequential(_block(c, c), _block(c, c))
        self.up_three = _block(2 * c, c)
        self.up_two = _block(c + b, b)
        self.up_one = _block(b + a, a)
        self.heatmap = nn.Conv3d(a, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        one = self.one(image)
        two = self.two(F.max_pool3d(one, 2))
        three = self.three(F.max_pool3d(two, 2))
        four = self.four(F.max_pool3d(three, 2))
        up = self.up_three(torch.cat([_grow(four, 2.0, 2.0), three], 1))
        up = self.up_two(torch.cat([_grow(up, 2.0, 2.0), two], 1))
        up = self.up_one(torch.cat([_grow(up, 2.0, 2.0), one], 1))
        return self.heatmap(up)  # type: ignore[no-any-return]
