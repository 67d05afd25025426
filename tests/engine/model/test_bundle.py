"""Trust: any change to a bundle, anywhere, is found before anything in it runs."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import tiny_bundle
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signed import Signed

from npc_edge.engine.errors import BundleError
from npc_edge.engine.model.bundle import Bundle, load, public_key
from npc_edge.engine.model.onnx_external import external_files
from npc_edge.export.pack import pack
from npc_edge.export.sign import public_bytes


def test_a_signed_bundle_is_trusted(made: Signed) -> None:
    bundle = made.load()
    assert bundle.trusted
    assert bundle.name == "tiny 1"
    assert bundle.manifest_sha256 == hashlib.sha256((made.root / "manifest.json").read_bytes()).hexdigest()
    assert bundle.artefact("npc", "fp32") == made.root / "artefacts" / "npc.fp32.onnx"
    assert BundleError.exit_code == 4


def test_every_flipped_byte_of_every_file_is_found(made: Signed, tmp_path: Path) -> None:
    """Every byte of SIGNATURE, and of the others the ends and a sweep through the middle."""
    root = tmp_path / "bundle"
    shutil.copytree(made.root, root)
    tried = 0
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        whole = path.read_bytes()
        step = 1 if path.name == "SIGNATURE" else max(1, len(whole) // 25)
        for place in {*range(0, len(whole), step), len(whole) - 1}:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            path.write_bytes(damaged)
            with pytest.raises(BundleError):
                load(root, [made.public])
            tried += 1
        path.write_bytes(whole)
    assert tried > 150
    assert load(root, [made.public]).trusted


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_found(signed: Signed, cut: float) -> None:
    for name in ("manifest.json", "SIGNATURE", "model_card.md", "artefacts/npc.fp32.onnx"):
        path = signed.root / name
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * cut)])
        with pytest.raises(BundleError):
            signed.load()
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["extra.txt", "artefacts/more.onnx", "new/folder/file", ".hidden"])
def test_a_file_the_manifest_does_not_list_is_refused(signed: Signed, name: str) -> None:
    (signed.root / name).parent.mkdir(parents=True, exist_ok=True)
    (signed.root / name).write_text("x")
    with pytest.raises(BundleError, match="not in its manifest"):
        signed.load()


def test_a_missing_file_is_named(signed: Signed) -> None:
    (signed.root / "model_card.md").unlink()
    with pytest.raises(BundleError, match=r"model_card\.md is missing"):
        signed.load()


def test_links_are_refused_even_to_the_same_bytes(signed: Signed, tmp_path: Path) -> None:
    card = signed.root / "model_card.md"
    shutil.copy(card, tmp_path / "outside.md")
    card.unlink()
    card.symlink_to(tmp_path / "outside.md")
    with pytest.raises(BundleError, match="link"):
        signed.load()


def test_a_linked_folder_is_refused(signed: Signed, tmp_path: Path) -> None:
    (signed.root / "artefacts").rename(tmp_path / "outside")
    (signed.root / "artefacts").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="link"):
        signed.load()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_without_reading_it(signed: Signed) -> None:
    os.mkfifo(signed.root / "pipe")
    with pytest.raises(BundleError, match="plain file"):
        signed.load()


def test_an_unsigned_bundle_needs_consent(signed: Signed) -> None:
    (signed.root / "SIGNATURE").unlink()
    with pytest.raises(BundleError, match="not signed"):
        signed.load()
    assert not load(signed.root, [signed.public], allow_unsigned=True).trusted


def test_an_unknown_key_needs_consent(signed: Signed) -> None:
    other = public_bytes(Ed25519PrivateKey.generate())
    for keys in ([], [other]):
        with pytest.raises(BundleError, match="trusted key"):
            load(signed.root, keys)
    assert load(signed.root, [other, signed.public]).trusted
    assert not load(signed.root, [other], allow_unsigned=True).trusted


def test_consent_does_not_cover_a_damaged_file(signed: Signed) -> None:
    (signed.root / "model_card.md").write_text("something else")
    with pytest.raises(BundleError, match="altered"):
        load(signed.root, [], allow_unsigned=True)


def test_a_file_changed_after_loading_is_found_when_it_is_used(signed: Signed) -> None:
    bundle = signed.load()
    path = signed.root / "artefacts" / "npc.fp32.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="not the file"):
        bundle.artefact("npc", "fp32")


def test_what_is_not_there_is_a_bundle_error(made: Signed, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="not a bundle"):
        load(made.root / "manifest.json")
    bundle = made.load()
    with pytest.raises(BundleError, match="no int8"):
        bundle.artefact("npc", "int8-u8s8")
    with pytest.raises(BundleError, match="no network"):
        bundle.network("other")


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"schema_version": "2"}', b"[" * 100_000], ids=range(6)
)
def test_a_manifest_that_is_none_is_a_bundle_error(signed: Signed, text: bytes) -> None:
    (signed.root / "manifest.json").write_bytes(text)
    (signed.root / "SIGNATURE").write_bytes(signed.key.sign(text))
    with pytest.raises(BundleError, match="not valid"):
        signed.load()


def test_an_unknown_key_in_a_manifest_is_refused(signed: Signed) -> None:
    with pytest.raises(BundleError, match="surprise"):
        pack(signed.root, tiny_bundle.manifest(surprise=1), signed.key)


ENGINE = {"runtime": "tensorrt-rtx", "runtime_version": "1.7.1", "compute_capability": "sm86"}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "engine"},
        {"engine": ENGINE},
        {"format": "engine", "engine": {**ENGINE, "runtime": "abacus"}},
        {"format": "engine", "engine": {**ENGINE, "compute_capability": "8.6"}},
        {"format": "engine", "engine": {**ENGINE, "runtime_version": ""}},
        {"format": "engine", "engine": {k: v for k, v in ENGINE.items() if k != "runtime_version"}},
    ],
    ids=range(6),
)
def test_an_engine_says_what_it_was_built_for_and_only_an_engine_does(signed: Signed, change: dict) -> None:
    networks = tiny_bundle.manifest()["networks"]
    artefacts = networks[1]["artefacts"]
    with pytest.raises(BundleError, match="not valid"):
        pack(
            signed.root,
            tiny_bundle.manifest(
                networks=[networks[0], {**networks[1], "artefacts": [{**artefacts[0], **change}]}]
            ),
            signed.key,
        )
    whole = {**artefacts[0], "format": "engine", "engine": ENGINE}
    networks[1]["artefacts"] = [whole]
    pack(signed.root, tiny_bundle.manifest(networks=networks), signed.key)
    assert signed.load().find("npc", "fp32") is None, "an engine is no ONNX artefact"


def test_keys_may_be_raw_pem_or_files(made: Signed, tmp_path: Path) -> None:
    pem = made.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "a.pub").write_bytes(pem)
    (tmp_path / "raw.pub").write_bytes(made.public)
    for key in (made.public, pem, tmp_path / "a.pub", tmp_path / "raw.pub"):
        assert public_key(key) == made.public
    for bad in (b"", b"x" * 31, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(BundleError, match="Ed25519"):
            public_key(bad)


def external_model(location: str) -> onnx.ModelProto:
    """The npc network with one weight kept in another file."""
    model = tiny_bundle.npc()
    tensor = next(t for t in model.graph.initializer if t.name == "scale")
    tensor.ClearField("float_data")
    tensor.raw_data = b""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


@pytest.mark.parametrize(
    "location",
    ["../../secret", "/etc/passwd", "missing.bin", "../artefacts/weights.bin", "./weights.bin", ""],
)
def test_onnx_data_from_elsewhere_is_refused(signed: Signed, location: str) -> None:
    (signed.root / "artefacts" / "weights.bin").write_bytes(bytes(12))
    (signed.root / "artefacts" / "npc.fp32.onnx").write_bytes(external_model(location).SerializeToString())
    with pytest.raises(BundleError, match="outside the bundle"):
        pack(signed.root, tiny_bundle.manifest(), signed.key)


def test_onnx_data_inside_the_bundle_is_checked_like_any_file(
    signed: Signed, repack: Callable[..., Bundle]
) -> None:
    (signed.root / "artefacts" / "weights.bin").write_bytes(bytes(12))
    (signed.root / "artefacts" / "npc.fp32.onnx").write_bytes(
        external_model("weights.bin").SerializeToString()
    )
    assert repack().trusted
    (signed.root / "artefacts" / "weights.bin").write_bytes(b"\1" * 12)
    with pytest.raises(BundleError, match="altered"):
        signed.load()


def test_external_tensors_are_found_wherever_onnx_allows_them() -> None:
    def tensor(location: str) -> onnx.TensorProto:
        made = onnx.TensorProto(name="w", data_type=1, dims=[3])
        made.data_location = onnx.TensorProto.EXTERNAL
        made.external_data.add(key="offset", value="0")
        made.external_data.add(key="location", value=location)
        return made

    helper = onnx.helper
    inner = helper.make_graph([], "inner", [], [], [tensor("initializer in a subgraph")])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=tensor("constant")),
        helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], [tensor("initializer")]))
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor("sparse values"))
    sparse.indices.CopyFrom(tensor("sparse indices"))
    function = model.functions.add()
    function.node.append(helper.make_node("Constant", [], ["e"], value=tensor("function")))
    function.attribute_proto.append(helper.make_attribute("default", tensor("function default")))
    model.training_info.add().initialization.initializer.append(tensor("training"))
    assert external_files(model.SerializeToString()) == {
        "initializer in a subgraph",
        "constant",
        "initializer",
        "sparse values",
        "sparse indices",
        "function",
        "function default",
        "training",
    }
    assert external_files(tiny_bundle.npc().SerializeToString()) == set()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_are_either_walked_or_refused(data: bytes) -> None:
    with contextlib.suppress(BundleError):
        found = external_files(data)
        assert all(location.encode() in data or "\ufffd" in location for location in found)


@pytest.mark.parametrize("data", [b"\x3a\x7f", b"\x80" * 12, b"\x3b", b"\x3a", b"\x09\0"])
def test_bytes_that_are_no_protobuf_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="ONNX"):
        external_files(data)
