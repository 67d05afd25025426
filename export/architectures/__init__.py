"""Architectures of the literature: each defined once, then exported and checked like any other network.

One file each: a frozen configuration and a function that builds the network from it. A factory of the same
name serves the command line: `--network npc_edge.export.architectures:detector`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from npc_edge.export.architectures.detector import DetectorConfig, build_detector
from npc_edge.export.architectures.swin_unetr import SwinUnetrConfig, build_swin_unetr

ARCHITECTURES: Mapping[str, tuple[type[Any], Callable[[Any], nn.Module]]] = {
    "detector": (DetectorConfig, build_detector),
    "swin_unetr": (SwinUnetrConfig, build_swin_unetr),
}
"""Name → (configuration, function that builds the network from one)."""


def detector() -> nn.Module:
    """The non-contrast detector at its published size."""
    return build_detector(DetectorConfig())


def swin_unetr() -> nn.Module:
    """SwinUNETR with two channels in and one tumour map out."""
    return build_swin_unetr(SwinUnetrConfig())
