"""`python -m npc_edge.bench NAME`: every measurement that the README and the docs quote."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from npc_edge.bench import (
    gpu,
    large,
    latency,
    monitor_load,
    monitor_simulation,
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
        "latency": latency,
        "large": large,
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
