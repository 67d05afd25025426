"""The engine's work done with PyTorch and MONAI: the same study in, the same files out.

MONAI reads, resamples, normalises, slides the window and brings the logits back; PyTorch runs the networks.
What MONAI has nothing for is shared with the engine: the mode of the heatmap, components and sides,
detection, staging, and every writer. The peer is spared the choice of series, the headers that the writers
copy, and the checks of alignment and field of view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import monai.data
import monai.inferers
import monai.transforms
import numpy as np
import torch
from monai.transforms.utils_pytorch_numpy_unification import percentile
from numpy.typing import NDArray
from torch import Tensor

from npc_edge.bench.peers.given import Given
from npc_edge.engine.clock import Clock
from npc_edge.engine.findings import detect, segment, stage
from npc_edge.engine.findings.boxes import Box
from npc_edge.engine.findings.sides import find_midline, sided_labels, split_sides
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.machine import peak_rss_mb
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.locate import peak
from npc_edge.engine.model.manifest import NetworkSpec, Normalisation
from npc_edge.engine.model.prepare import grid
from npc_edge.engine.output.fingerprint import Ran, fingerprint
from npc_edge.engine.output.publish import write
from npc_edge.engine.output.result import Outcome, RunFacts
from npc_edge.engine.output.scribe import Drafts, Scribe
from npc_edge.engine.types import Findings, Options, RunnerInfo, Segmentation, Volume, Watch
from npc_edge.engine.version import VERSION

Network = Callable[[Tensor], tuple[Tensor, ...]]
Image = Any
"""A MetaTensor (C, X, Y, Z) that knows its affine, RAS mm."""

_data: Any = monai.data  # MONAI names no types that can be relied on
_inferers: Any = monai.inferers
_transforms: Any = monai.transforms
_percentile: Any = percentile

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""MONAI's patient axes from ours, and back."""

_MARGIN = 1
"""Source voxels kept around what a grid reaches."""


@dataclass(frozen=True, eq=False)
class PeerRun:
    """timings_ms: by the engine's stations, and `total`. tumour, structures: (Z, Y, X) uint8 label codes."""

    timings_ms: Mapping[str, float]
    tumour: NDArray[np.uint8]
    structures: NDArray[np.uint8]


class MonaiPeer:
    """Holds the networks, ready to run; `run` takes the study as the engine's session would.

    networks: by name, an image (1, C, Z, Y, X) float32 → its raw outputs. info: what the result says ran.
    key_for: the salted hash of a UID. scribe: the process beside that makes DICOM objects, as the engine's
    session has one; None: they are made here.
    """

    def __init__(
        self,
        bundle: Bundle,
        networks: Mapping[str, Network],
        info: RunnerInfo,
        key_for: Callable[[str], str],
        device: str = "cpu",
        scribe: Scribe | None = None,
    ) -> None:
        self._bundle, self._networks, self._info, self._key_for = bundle, networks, info, key_for
        self._device, self._scribe = device, scribe
        # One reader, told not to look at each file twice.
        self._load = _transforms.LoadImage(
            _data.PydicomReader(fname_regex=""), image_only=True, dtype=np.float32, ensure_channel_first=True
        )

    def run(self, given: Given, out: Path) -> PeerRun:
        """Series folders → every file of a result in `out`."""
        manifest, clock = self._bundle.manifest, Clock(Watch())
        locator, decider = manifest.networks
        with clock.station("read"):
            images = {name: self._load(str(given.folders[name])) for name in given.folders}
        with clock.station("assemble"):
            volumes = {name: _volume(images[name], given.volumes[name]) for name in images}
            images = {name: image.to(self._device) for name, image in images.items()}
        drafts = None if self._scribe is None else Drafts(self._scribe, clock.watch)
        if self._scribe is not None:
            self._scribe.start()
        reference = volumes[manifest.reference_sequence]
        with clock.station("locate"):
            where = grid(reference.geometry, locator, None)
            heat = self._slide(locator, network_input(images, where, locator))[0]
            index, _ = peak(heat[0, 0].float().cpu().numpy(), locator.spacing)
            centre = where.to_world(index[::-1][None])[0]
        with clock.station("prepare"):
            window = grid(reference.geometry, decider, centre)
            image = network_input(images, window, decider)
        with clock.station("infer"):
            outputs = self._slide(decider, image)
        with clock.station("findings"):
            findings = self._find(outputs, window, volumes)
            if drafts is not None:
                drafts.begin(self._outcome(given, volumes, findings, clock))
            findings = self._staged(findings, volumes)
        outcome = self._outcome(given, volumes, findings, clock)
        published = write(outcome, out, False, clock, drafts)
        masks = findings.segmentation
        return PeerRun(dict(published.document.runtime.timings_ms), masks.tumour, masks.structures)

    def _slide(self, network: NetworkSpec, image: Tensor) -> tuple[Tensor, ...]:
        """MONAI's sliding window over an image (1, C, X, Y, Z); maps come back as (1, K, Z, Y, X)."""
        kinds = [output.kind for output in network.outputs]
        scores: list[Tensor] = []

        def window(part: Tensor) -> tuple[Tensor, ...]:
            outputs = self._networks[network.name](part.permute(0, 1, 4, 3, 2))
            scores.extend(o for o, kind in zip(outputs, kinds, strict=True) if kind == "detection")
            maps = [o for o, kind in zip(outputs, kinds, strict=True) if kind != "detection"]
            return tuple(o.permute(0, 1, 4, 3, 2) for o in maps)

        with torch.inference_mode():
            found = _inferers.sliding_window_inference(
                image, network.window[::-1], 1, window, overlap=network.overlap, mode="gaussian"
            )
        maps = [found] if isinstance(found, Tensor) else list(found)
        maps = [part.permute(0, 1, 4, 3, 2) for part in maps]
        score = torch.stack(scores).amax(0) if scores else None
        return (*maps, score) if score is not None else tuple(maps)

    def _find(self, outputs: tuple[Tensor, ...], window: Geometry, volumes: Mapping[str, Volume]) -> Findings:
        manifest = self._bundle.manifest
        names = [output.kind for output in manifest.networks[-1].outputs]
        held = dict(zip(names, outputs, strict=True))
        reference = volumes[manifest.reference_sequence]
        segmentation = _masks(held["tumour"], held["anatomy"], window, reference.geometry, self._bundle)
        artefact = f"artefacts/{manifest.networks[-1].name}.fp32.onnx"
        score = float(held["detection"].reshape(-1)[0])
        detection = detect.detect(score, segmentation, manifest, artefact)
        if detection is not None and detection.finding == "not_suspicious":
            segmentation = segment.cleared(segmentation)
        return Findings(detection, segmentation, None, ())

    def _staged(self, findings: Findings, volumes: Mapping[str, Volume]) -> Findings:
        staging = stage.stage(
            findings.segmentation, volumes, self._bundle.manifest, findings.detection, Options()
        )
        return replace(findings, staging=staging)

    def _outcome(
        self, given: Given, volumes: Mapping[str, Volume], findings: Findings, clock: Clock
    ) -> Outcome:
        bundle = self._bundle
        print_ = fingerprint(given.study, volumes, Options(), bundle.manifest_sha256, Ran((self._info,)))
        facts = RunFacts(
            version=VERSION,
            bundle_name=bundle.name,
            bundle_sha256=bundle.manifest_sha256,
            evidence=bundle.manifest.evidence,
            fingerprint=print_,
            runner=self._info,
            fallback=None,
            timings_ms=clock.timings(),
            peak_rss_mb=peak_rss_mb(),
            correlation=None,
        )
        return Outcome(
            outcome="result",
            reasons=(),
            study=given.study,
            selection=given.selection,
            volumes=volumes,
            reference=bundle.manifest.reference_sequence,
            findings=findings,
            manifest=bundle.manifest,
            facts=facts,
            key_for=self._key_for,
        )


def _volume(image: Image, known: Volume) -> Volume:
    """What MONAI read, with the headers of `known`, as the writers want it."""
    voxels = image[0].numpy().transpose(2, 1, 0)
    ascending = np.linalg.det(RAS @ np.asarray(image.affine)) > 0
    return replace(known, voxels=np.ascontiguousarray(voxels if ascending else voxels[::-1]))


def network_input(images: Mapping[str, Image], target: Geometry, network: NetworkSpec) -> Tensor:
    """(1, C, X, Y, Z) float32 on a grid, normalised."""
    rule = network.normalisation
    assert rule is not None, "the demo bundle's networks are normalised"
    return torch.cat([_normalised(_on_grid(images[name], target), rule) for name in network.inputs])[None]


def _on_grid(image: Image, target: Geometry) -> Image:
    """(1, X, Y, Z): cropped to what the grid reaches, averaged over blocks where that is coarse, resampled.

    Without the engine's Gaussian before a grid that is a little coarser: MONAI's takes five times as long as
    the rest, and the masks agree as well without it.
    """
    image = _reached(image, target)
    step = np.linalg.norm(np.asarray(image.affine.cpu())[:3, :3], axis=0)
    blocks = [max(1, int(wanted / s / 2)) for wanted, s in zip(target.spacing, step, strict=True)]
    if max(blocks) > 1:
        whole = [n // b * b for n, b in zip(image.shape[1:], blocks, strict=True)]
        image = _transforms.SpatialCrop(roi_start=[0, 0, 0], roi_end=whole)(image)
        image = _transforms.Resize([n // b for n, b in zip(whole, blocks, strict=True)], mode="area")(image)
    return _resampled(image, target)


def _resampled(image: Image, target: Geometry) -> Image:
    move = _transforms.SpatialResample(mode="bilinear", padding_mode="border", dtype=torch.float32)
    return move(image, dst_affine=torch.from_numpy(RAS @ target.affine), spatial_size=target.shape[::-1])


def _in_parts(image: Image, target: Geometry) -> Tensor:
    """`_resampled` of many channels, some on each core: PyTorch's grid_sample takes one core an image."""
    if image.device.type != "cpu":
        return _resampled(image, target).as_tensor()  # type: ignore[no-any-return]
    parts = image.as_tensor().chunk(max(1, torch.get_num_threads()))
    with ThreadPoolExecutor(len(parts)) as pool:
        done = pool.map(lambda part: _resampled(_data.MetaTensor(part, affine=image.affine), target), parts)
        return torch.cat([part.as_tensor() for part in done])


def _reached(image: Image, target: Geometry) -> Image:
    index = np.linalg.inv(RAS @ np.asarray(image.affine.cpu()))
    points = target.corners() @ index[:3, :3].T + index[:3, 3]
    low = np.maximum(np.floor(points.min(axis=0)) - _MARGIN, 0).astype(int).tolist()
    high = np.minimum(np.ceil(points.max(axis=0)) + 1 + _MARGIN, image.shape[1:]).astype(int).tolist()
    return _transforms.SpatialCrop(roi_start=low, roi_end=high)(image)


def _normalised(image: Image, rule: Normalisation) -> Tensor:
    """MONAI's ScaleIntensityRangePercentiles, but of the foreground: it takes no mask."""
    values: Tensor = image.as_tensor()
    bright = values[values > rule.foreground * values[values > 0].mean()]
    low, high = (float(v) for v in _percentile(bright, [rule.lower, rule.upper]))
    return (values.clamp(low, high) - low) / (high - low)


def brought_back(logits: Tensor, window: Geometry, reference: Geometry) -> tuple[Tensor, Box, Geometry]:
    """Logits (1, K, Z, Y, X) on the window → (K, Z, Y, X) float32 on the part of the reference's grid that
    the window reaches, which part that is, and its grid. Interpolated there only: MONAI's Invertd would
    interpolate all 26 channels over the whole image."""
    index = reference.to_index(window.corners())[:, ::-1]
    low = np.clip(np.floor(index.min(axis=0)), 0, np.array(reference.shape) - 1).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 1, 1, np.array(reference.shape)).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    box: Box = (z, y, x)
    offset = np.eye(4)
    offset[:3, 3] = low[::-1]
    crop = Geometry(tuple((high - low).tolist()), reference.affine @ offset, reference.frame_of_reference)
    turned = logits[0].float().permute(0, 3, 2, 1)
    held = _data.MetaTensor(turned, affine=torch.from_numpy(RAS @ window.affine))
    return _in_parts(held, crop).permute(0, 3, 2, 1), box, crop


def _masks(
    tumour: Tensor, anatomy: Tensor, window: Geometry, reference: Geometry, bundle: Bundle
) -> Segmentation:
    """Logits (1, K, Z, Y, X) on the window → masks on the reference's grid."""
    manifest = bundle.manifest
    found, box, crop = brought_back(torch.cat([tumour, anatomy], 1), window, reference)
    inside = np.ones(crop.shape, dtype=np.bool_)
    probability = torch.sigmoid(found[0]).cpu().numpy()
    structures = found[1:].argmax(0).to(torch.uint8).cpu().numpy()
    plane = find_midline(structures, crop, manifest.labels)
    structures = split_sides(structures, crop, manifest.labels, plane)
    mask = segment.tumour_mask(probability, crop, manifest.tumour.threshold, manifest.tumour.min_component_ml)

    def paste(part: NDArray[Any], kind: type[np.generic]) -> NDArray[Any]:
        whole = np.zeros(reference.shape, dtype=kind)
        whole[box] = part
        return whole

    return Segmentation(
        tumour=paste(mask.mask, np.uint8),
        tumour_probability=paste(probability, np.float32),
        structures=paste(structures, np.uint8),
        covered=paste(inside, np.bool_),
        geometry=reference,
        labels={label.code: label.name for label in sided_labels(manifest)},
        volume_ml=mask.volume_ml,
        centroid_lps_mm=mask.centroid_lps_mm,
        components=mask.components,
    )
