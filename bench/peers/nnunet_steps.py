"""The steps of the nnU-Net comparison, each run in a process of its own: see `npc_edge.bench.nnunet_peer`."""

from __future__ import annotations

import contextlib
import io
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from npc_edge.bench.peers.nnunet_folder import LARGE, SMALL, write_folder
from npc_edge.engine.errors import UsageError
from npc_edge.engine.machine import available_cores
from npc_edge.engine.model import nnunet
from npc_edge.engine.model.acceptance import TOLERANCES, Tolerance, compare, golden_cases
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.manifest import Artefact, Parity
from npc_edge.engine.model.runner import Arrays
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.openvino import OpenVinoRunner
from npc_edge.engine.model.runners.pairs import Pair, missing_here
from npc_edge.engine.model.sliding_window import windows
from npc_edge.engine.study.nifti_input import read_nifti

Answer = dict[str, Any]
SEQUENCES = ("t1", "t2")
_FOLD, _FILE = "fold_0", "artefacts/fold_0.int8-u8s8.onnx"
_CALIBRATED_ON = 4
_ROOM = 0.75
"""Of the error that is allowed: runtimes round apart."""


def make(folder: Path, small: bool) -> Answer:
    """The trained folder, two images, and the fp32 bundle of our own export."""
    from npc_edge.export.nnunet import NnunetJob, export_nnunet

    size = SMALL if small else LARGE
    trained, parameters = write_folder(folder / "trained", size)
    for number, name in enumerate(SEQUENCES):
        image = sitk.GetImageFromArray(_head(size.image, number))
        image.SetSpacing(size.spacing[::-1])  # type: ignore[no-untyped-call]
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    said: list[str] = []
    export_nnunet(NnunetJob(trained, folder / "bundle"), None, said.append)
    return {"parameters": parameters, "window": size.window, "image": size.image, "export": said}


def _head(shape: tuple[int, int, int], number: int) -> Any:
    """Smooth blobs with noise, nowhere 0: nothing is cropped. number: of the sequence; its contrast differs,
    but the blobs lie at the same places, or the engine would refuse two heads that do not fit together."""
    rng = np.random.default_rng(7)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij")
    tissue = np.zeros(shape, dtype=np.float32)
    for _ in range(8):
        centre, width, height = rng.uniform(-0.7, 0.7, 3), rng.uniform(0.1, 0.4), rng.uniform(30, 90)
        far = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
        tissue += np.float32(height) * np.exp(-far / np.float32(width**2), dtype=np.float32)
    image = 60 + tissue if number == 0 else 330 - np.float32(0.8) * tissue
    return image + np.random.default_rng(number).normal(0, 6, shape).astype(np.float32)


def lower(folder: Path) -> Answer:
    """Add the int8 file, calibrated on a few of the images' own windows; rows for it on OpenVINO, and for the
    original in bf16."""
    from npc_edge.export.pack import pack

    bundle = load(folder / "bundle", allow_unsigned=True)
    spec = bundle.network(_FOLD)
    volumes = read_nifti({name: folder / f"{name}.nii.gz" for name in SEQUENCES})
    channels = nnunet.prepare(volumes, spec, SEQUENCES[0]).channels
    boxes = list(windows(channels.shape, spec))
    step = max(1, len(boxes) // _CALIBRATED_ON)
    inputs = [{"image": channels.values(box)[None]} for box in boxes[::step][:_CALIBRATED_ON]]
    layers, in_float = _quantized(bundle, inputs)
    original = spec.artefacts[0]
    rows = {
        precision: _row(bundle, file, precision)
        for file, precision in ((_FILE, "int8-u8s8"), (_FILE, "int8-bf16"), (original.file, "bf16"))
        if not missing_here(Pair("fp32", "openvino", precision), instruction_set())
    }
    held = {"fp32": (*original.parity, *_parities(rows, "bf16")), "int8-u8s8": _parities(rows, "int8-")}
    artefacts = (
        original.model_copy(update={"parity": held["fp32"]}),
        Artefact(precision="int8-u8s8", file=_FILE, parity=held["int8-u8s8"]),
    )
    network = spec.model_copy(update={"artefacts": artefacts})
    manifest = bundle.manifest.model_copy(update={"networks": (network,)})
    pack(bundle.root, manifest.model_dump(mode="json", exclude={"files"}), None)
    return {"layers": layers, "in_float": in_float, "windows": len(boxes), "golden": rows}


def _parities(rows: Mapping[str, Answer], precision: str) -> tuple[Parity, ...]:
    return tuple(Parity.model_validate(row) for name, row in rows.items() if name.startswith(precision))


def _quantized(bundle: Bundle, inputs: Sequence[Arrays]) -> tuple[int, Sequence[str]]:
    """Write the int8 file; how many layers int8 is for, and which of them stay in float.

    The gate of `npc-edge quantize` judges a task, and random weights have none. So layers go back to float
    until the golden case's error leaves room below what `npc-edge verify` allows of int8.
    """
    import onnx

    from npc_edge.export import graph
    from npc_edge.export.observe import observe
    from npc_edge.export.passes import rewrite
    from npc_edge.export.qdq import activations, quantizable, quantize
    from npc_edge.export.search import Verdict, search
    from npc_edge.export.staged_norms import LOWERED

    case = next(golden_cases(bundle, _FOLD))
    model, _ = rewrite(onnx.load(str(bundle.artefact(_FOLD, "fp32"))), LOWERED, inputs[0])
    ranges, layers = observe(model, activations(model), [*inputs, case.inputs]), quantizable(model)

    def judge(lowered: onnx.ModelProto) -> Verdict:
        error = compare(case, graph.run(lowered, case.inputs), Tolerance(np.inf, 0.0)).max_relative_error
        return Verdict(error <= _ROOM * TOLERANCES["int8-u8s8"].relative_error, error)

    def build(keep: frozenset[str]) -> onnx.ModelProto:
        return model if len(keep) == len(layers) else quantize(model, ranges, "int8-u8s8", keep)

    found = search(layers, build, judge)
    onnx.save(build(frozenset(found.reverted)), str(bundle.root / _FILE))
    return len(layers), found.reverted


def _row(bundle: Bundle, file: str, precision: str) -> Answer:
    """What the golden case says of a file on OpenVINO: a row of a parity table."""
    case = next(golden_cases(bundle, _FOLD))
    path = bundle.root / file
    with OpenVinoRunner(path, threads=available_cores(), precision=precision) as runner:
        found = compare(case, runner.infer(case.inputs), Tolerance(np.inf, 0.0))
        ran = runner.describe().precision
    return {
        "backend": "openvino",
        "precision": ran,
        "isa": instruction_set(),
        "max_relative_error": found.max_relative_error,
        "dice": found.dice,
    }


def predict(folder: Path, out: Path) -> Answer:
    """nnU-Net's own predictor: files in, labels to a file, no mirroring, all cores."""
    begun = time.perf_counter()
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    torch.set_num_threads(available_cores())
    trained = folder / "trained"
    about = json.loads((trained / "dataset.json").read_text(encoding="utf-8"))
    manager = PlansManager(json.loads((trained / "plans.json").read_text(encoding="utf-8")))
    held = manager.get_configuration("3d_fullres")
    network = get_network_from_plans(
        held.network_arch_class_name,
        held.network_arch_init_kwargs,
        held.network_arch_init_kwargs_req_import,
        len(about["channel_names"]),
        manager.get_label_manager(about).num_segmentation_heads,
        deep_supervision=False,
    )
    weights = torch.load(trained / _FOLD / "checkpoint_final.pth", weights_only=True)["network_weights"]
    imported = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = nnUNetPredictor(
            tile_step_size=0.5,
            use_mirroring=False,
            perform_everything_on_device=False,
            device=torch.device("cpu"),
            allow_tqdm=False,
        )
        predictor.manual_initialization(network, manager, held, [weights], about, "nnUNetTrainer", (0, 1, 2))
        files = [str(folder / f"{name}.nii.gz") for name in SEQUENCES]
        image, properties = SimpleITKIO().read_images(files)
        labels = predictor.predict_single_npy_array(image, properties)
        SimpleITKIO().write_seg(labels, str(out), properties)
    return {"import_s": imported - begun, "predict_s": time.perf_counter() - imported}


def agree(theirs: Path, ours: Path) -> float:
    """Share of voxels of equal tumour label: theirs all labels in one file, ours the tumour's mask."""
    one, other = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (theirs, ours))
    return float(((one == 1) == (other > 0)).mean())


def step(name: str, folder: Path, small: bool) -> Mapping[str, Any]:
    """Run one step by its name; UsageError for another."""
    if name == "make":
        return make(folder, small)
    if name == "lower":
        return lower(folder)
    if name == "predict":
        return predict(folder, folder / "nnunet.nii.gz")
    raise UsageError(f"there is no step {name}")
