"""A plain head for tests of the scanner and the writers: an ellipsoid with a tumour on one side."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from npc_edge.bench.phantom.dicom import Acquired, Identity, write_series
from npc_edge.bench.phantom.enhanced import write_enhanced_series
from npc_edge.bench.phantom.examine import Head, examine
from npc_edge.bench.phantom.protocol import PhantomSpec, Protocol, draw_protocol
from npc_edge.bench.phantom.structures import Tissue
from npc_edge.engine.geometry import Geometry

sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def plain_head(protocol: Protocol) -> Head:
    """2 x 2 x 3 mm; fat around muscle around brain, a mucosal strip, a tumour on the left."""
    grid = Geometry.centred([0, -10, 5], (2, 2, 3), (70, 120, 95))
    z, y, x = np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in grid.shape], indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    tissue = np.zeros(grid.shape, dtype=np.uint8)
    for limit, code in ((1.0, Tissue.FAT), (0.88, Tissue.MUSCLE), (0.45, Tissue.WHITE_MATTER)):
        tissue[radius < limit] = code
    tissue[(np.abs(x) < 0.1) & (y < -0.3) & (radius < 0.8)] = Tissue.MUCOSA
    fraction = np.clip(4 * (0.3 - np.sqrt((x - 0.4) ** 2 + y**2 + z**2)), 0, 1).astype(np.float32)
    return Head(tissue, fraction, Geometry(grid.shape, protocol.head @ grid.affine))


@lru_cache(maxsize=4)
def acquired(spec: PhantomSpec) -> tuple[Protocol, tuple[Acquired, ...]]:
    """A protocol and its series of the plain head."""
    protocol = draw_protocol(spec)
    return protocol, tuple(examine(spec, protocol, plain_head(protocol)))


def write_study(spec: PhantomSpec, folder: Path) -> Path:
    """The plain head's study in `folder`; returns it."""
    protocol, series = acquired(spec)
    for one in series:
        (write_enhanced_series if spec.enhanced else write_series)(folder, Identity(spec), protocol, one)
    return folder
