"""`python -m npc_edge.bench BENCH`: the numbers that the README and the docs quote.

Latency, the network's speed and PyTorch beside it are `npc-edge bench`.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from npc_edge.bench import (
    architectures,
    gpu,
    install_size,
    large,
    layers,
    monitor_load,
    monitor_simulation,
    nnunet_peer,
    real_heads,
    regression,
    voxels,
)


def main(arguments: list[str] | None = None) -> int:
    """Run one bench; returns its exit code."""
    parser = ArgumentParser(prog="python -m npc_edge.bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="BENCH")
    benches = {
        "regression": regression,
        "real-heads": real_heads,
        "large": large,
        "layers": layers,
        "nnunet-peer": nnunet_peer,
        "install-size": install_size,
        "architectures": architectures,
        "monitor-load": monitor_load,
        "monitor-simulation": monitor_simulation,
        "voxels": voxels,
        "gpu": gpu,
    }
    for name, module in benches.items():
        summary = (module.__doc__ or "").strip().splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.main)
    given = parser.parse_args(arguments)
    return int(given.run(given))


if __name__ == "__main__":
    sys.exit(main())
