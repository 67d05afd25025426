"""The non-contrast detector by knowledge distillation: T1 and T2 in, a score out; contrast only in training.

After "non-contrast detection of nasopharyngeal carcinoma by knowledge distillation", reference [9] of the
review this project follows; only what is published is known. As published: a shared 1-channel residual
encoder 8-16-32-64-128 with stride-2 3x3x3 convolutions, each level x + c3(c2(x)), each convolution after
InstanceNorm (no affine) and LeakyReLU 0.2; for each sequence a 1x1x1 convolution to 512, one token for each
of 8x8x8 places with a learned position, 8 transformer layers (8 heads, feed-forward 4096) with a parallel
convolutional adapter (512 → 8 → 3x3x3 → 512), back to 128; fusion of the sequences present: tokens
concatenated, one attention and feed-forward (3072) layer, 1x1x1 convolution to 384, softmax-weighted sum of
its three chunks of 128; a linear layer to 2. The teacher is the same on 3 channels. Loss: cross-entropy of
the fused answer and of the teacher, and KL(sequence head || teacher) for each sequence.

Chosen here, where nothing is published:
- the first convolution has no norm before it (it sees the image) and stride 1; padding is with zeros;
- projection, positions, transformer and head are a sequence's own; only the encoder is shared;
- the adapter lies beside the attention, on its normalised input, with GELU between its convolutions; layers
  are pre-norm, with GELU and without dropout;
- tokens are concatenated along their number, not their width; after the fusing layer (8 heads) the tokens of
  one place are averaged over the sequences present, which makes 8x8x8 places again;
- the weights of the three chunks are a softmax over one learned projection of each chunk's mean;
- the teacher's stream is one: its encoder takes the three sequences as channels, and nothing is fused;
- the KL terms count the sequences present, with temperature 1, and do not train the teacher;
- masks are drawn evenly from the non-empty subsets of the sequences, anew for every case.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CHUNKS = 3


@dataclass(frozen=True)
class DetectorConfig:
    """window (Z, Y, X) voxels, a multiple of 16; widths of the encoder's levels; the rest as published.

    sequences: all that training sees, those of inference first; at_inference: how many those are.
    """

    window: tuple[int, int, int] = (128, 128, 128)
    widths: tuple[int, ...] = (8, 16, 32, 64, 128)
    width: int = 512
    layers: int = 8
    heads: int = 8
    feed_forward: int = 4096
    adapter: int = 8
    fusion_feed_forward: int = 3072
    sequences: tuple[str, ...] = ("t1", "t2", "t1c")
    at_inference: int = 2

    @property
    def places(self) -> tuple[int, int, int]:
        """(Z, Y, X) of the encoder's last level."""
        step = 2 ** (len(self.widths) - 1)
        z, y, x = self.window
        if z % step or y % step or x % step:
            raise ValueError(f"the window must be a multiple of {step} along each axis")
        return z // step, y // step, x // step


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits of a training step: fused and teacher (N, 2), sequences (N, S, 2)."""

    fused: Tensor
    sequences: Tensor
    teacher: Tensor


def build_detector(config: DetectorConfig) -> Detector:
    """Student and teacher with fresh weights."""
    return Detector(config)


class Detector(nn.Module):
    """Student and teacher. Called, it is the student on the sequences of inference alone, and an export holds
    nothing else; `answer` is the training step."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        size = config.widths[-1] * prod(config.places)
        self.at_inference = config.at_inference
        self.encoder = Encoder(1, config)
        self.streams = nn.ModuleList(Stream(config) for _ in config.sequences)
        self.heads = nn.ModuleList(nn.Linear(size, 2) for _ in config.sequences)
        self.fusion = Fusion(config)
        self.head = nn.Linear(size, 2)
        self.teacher = nn.Sequential(
            Encoder(len(config.sequences), config), Stream(config), nn.Flatten(), nn.Linear(size, 2)
        )

    def forward(self, image: Tensor) -> Tensor:
        """(N, at_inference, Z, Y, X) → (N, 1): the logit of NPC, log p / (1 - p) of the two-way softmax."""
        tokens = [self.streams[k](self.encoder(image[:, k : k + 1])) for k in range(self.at_inference)]
        logits: Tensor = self.head(self.fusion(torch.stack(tokens, dim=1), None).flatten(1))
        return logits[:, 1:] - logits[:, :1]

    def answer(self, image: Tensor, present: Tensor) -> Answers:
        """image (N, S, Z, Y, X); present (N, S) bool: the sequences the student may use, one at least."""
        tokens = [stream(self.encoder(image[:, k : k + 1])) for k, stream in enumerate(self.streams)]
        fused = self.head(self.fusion(torch.stack(tokens, dim=1), present).flatten(1))
        single = [head(own.flatten(1)) for head, own in zip(self.heads, tokens, strict=True)]
        return Answers(fused, torch.stack(single, dim=1), self.teacher(image))


class Encoder(nn.Module):
    """(N, channels, Z, Y, X) → (N, widths[-1], *places)."""

    def __init__(self, channels: int, config: DetectorConfig) -> None:
        super().__init__()
        levels: list[nn.Module] = []
        before = channels
        for depth, width in enumerate(config.widths):
            first = nn.Conv3d(before, width, 3, padding=1) if depth == 0 else _conv(before, width, stride=2)
            levels += [first, Residual(nn.Sequential(_conv(width, width), _conv(width, width)))]
            before = width
        self.levels = nn.Sequential(*levels)

    def forward(self, image: Tensor) -> Tensor:
        made: Tensor = self.levels(image)
        return made


class Residual(nn.Module):
    """x + inner(x)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.inner(x)
        return added


class Stream(nn.Module):
    """A sequence's own part: (N, C, *places) → tokens (N, P, C), mixed."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels = config.widths[-1]
        self.wide = nn.Linear(channels, config.width)
        self.position = nn.Parameter(0.02 * torch.randn(1, prod(config.places), config.width))
        self.layers = nn.Sequential(
            *(
                Layer(config.width, config.heads, config.feed_forward, Adapter(config))
                for _ in range(config.layers)
            )
        )
        self.narrow = nn.Linear(config.width, channels)

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.wide(features.flatten(2).transpose(1, 2)) + self.position
        narrow: Tensor = self.narrow(self.layers(tokens))
        return narrow


class Layer(nn.Module):
    """A pre-norm transformer layer, with an adapter beside its attention where one is given."""

    def __init__(self, width: int, heads: int, feed_forward: int, adapter: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.adapter = adapter
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, feed_forward), nn.GELU(), nn.Linear(feed_forward, width)
        )

    def forward(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        normed = self.norm(tokens)
        mixed = tokens + self.attention(normed, keep)
        if self.adapter is not None:
            mixed = mixed + self.adapter(normed)
        fed: Tensor = mixed + self.feed(mixed)
        return fed


class Attention(nn.Module):
    """Every token asks every other that `keep` (N, T) bool does not leave out; None: all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask = nn.Linear(width, 3 * width)
        self.give = nn.Linear(width, width)

    def forward(self, tokens: Tensor, keep: Tensor | None) -> Tensor:
        query, key, value = (
            self.ask(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )
        score = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        if keep is not None:
            score = score.masked_fill(~keep[:, None, None, :], float("-inf"))
        mixed: Tensor = self.give((score.softmax(dim=-1) @ value).transpose(1, 2).flatten(2))
        return mixed


class Adapter(nn.Module):
    """A narrow convolution over the places of the tokens (N, P, W)."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.places = config.places
        self.inner = nn.Sequential(
            nn.Conv3d(config.width, config.adapter, 1),
            nn.GELU(),
            nn.Conv3d(config.adapter, config.adapter, 3, padding=1),
            nn.GELU(),
            nn.Conv3d(config.adapter, config.width, 1),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        made: Tensor = self.inner(torch.unflatten(tokens.transpose(1, 2), 2, self.places))
        return made.flatten(2).transpose(1, 2)


class Fusion(nn.Module):
    """Tokens of S sequences (N, S, P, C) → (N, P, C); present (N, S) bool leaves sequences out, None none."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels = config.widths[-1]
        self.layer = Layer(channels, config.heads, config.fusion_feed_forward)
        self.spread = nn.Linear(channels, _CHUNKS * channels)
        self.weigh = nn.Linear(channels, 1)

    def forward(self, tokens: Tensor, present: Tensor | None) -> Tensor:
        sequences, places = tokens.shape[1:3]
        keep = None if present is None else present.repeat_interleave(places, dim=1)
        mixed = self.layer(tokens.flatten(1, 2), keep).unflatten(1, (sequences, places))
        if present is None:
            joined = mixed.mean(dim=1)
        else:
            share = present / present.sum(dim=1, keepdim=True)
            joined = (mixed * share[:, :, None, None]).sum(dim=1)
        chunks = self.spread(joined).unflatten(-1, (_CHUNKS, -1))
        weights = self.weigh(chunks.mean(dim=1)).softmax(dim=1)
        merged: Tensor = (chunks * weights[:, None]).sum(dim=2)
        return merged


def draw_masks(cases: int, sequences: int, generator: torch.Generator) -> Tensor:
    """(cases, sequences) bool: which are present, each non-empty subset as likely as any other."""
    subset = torch.randint(1, 2**sequences, (cases, 1), generator=generator)
    return (subset >> torch.arange(sequences)) % 2 == 1


def distillation_loss(answers: Answers, truth: Tensor, present: Tensor) -> Tensor:
    """Mean over cases of CE(fused) + CE(teacher) + the sum over sequences present of KL(sequence || teacher).

    truth (N,) int64: 1 for NPC. present (N, S) bool. The KL terms do not train the teacher.
    """
    teacher = answers.teacher.detach().log_softmax(dim=-1)[:, None]
    single = answers.sequences.log_softmax(dim=-1)
    apart = (single.exp() * (single - teacher)).sum(dim=-1)
    distilled = (apart * present).sum(dim=1).mean()
    return F.cross_entropy(answers.fused, truth) + F.cross_entropy(answers.teacher, truth) + distilled


def _conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.InstanceNorm3d(before), nn.LeakyReLU(0.2), nn.Conv3d(before, after, 3, stride=stride, padding=1)
    )
