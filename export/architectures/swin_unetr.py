"""SwinUNETR (Hatamizadeh et al. 2022) as MONAI has it: imported, never rewritten."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from npc_edge.engine.errors import BackendError


@dataclass(frozen=True)
class SwinUnetrConfig:
    """channels in and out; feature_size, a multiple of 12; blocks and heads of each of the four stages.

    The window of the input must be a multiple of 32 along each axis, and more than 32 along one.
    """

    channels_in: int = 2
    channels_out: int = 1
    feature_size: int = 48
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    heads: tuple[int, int, int, int] = (3, 6, 12, 24)


def build_swin_unetr(config: SwinUnetrConfig) -> nn.Module:
    """(N, channels_in, Z, Y, X) → logits (N, channels_out, Z, Y, X). BackendError where MONAI is missing."""
    try:
        import einops  # noqa: F401  # MONAI asks for it only when it builds the network, and less clearly
        from monai.networks.nets.swin_unetr import SwinUNETR
    except ImportError as error:
        raise BackendError(
            f"SwinUNETR needs {error.name}, which is not installed", "pip install 'npc-edge[export,monai]'"
        ) from error
    network: nn.Module = SwinUNETR(
        in_channels=config.channels_in,
        out_channels=config.channels_out,
        feature_size=config.feature_size,
        depths=config.depths,
        num_heads=config.heads,
        spatial_dims=3,
    )
    return network
