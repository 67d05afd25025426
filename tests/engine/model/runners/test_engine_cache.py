"""Engines kept on this machine: keyed by all that matters, whole or not there, never another's."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from npc_edge.engine.errors import OutputError
from npc_edge.engine.model.runners.engine_cache import EngineCache, EngineKey

KEY = EngineKey("a" * 64, "tensorrt-rtx", "1.7.1", "sm86", "13.0")


def test_what_was_published_is_read_back(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    assert cache.read(KEY) is None
    digest = cache.publish(KEY, b"a plan")
    again = EngineCache(tmp_path / "engines")
    assert (again.read(KEY), again.sha256(KEY)) == (b"a plan", digest)


@pytest.mark.parametrize(
    "other",
    [
        {"artefact_sha256": "b" * 64},
        {"runtime": "tensorrt"},
        {"runtime_version": "1.7.2"},
        {"capability": "sm89"},
        {"driver": "13.1"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_an_engine_fits_exactly_what_it_was_built_for(tmp_path: Path, other: dict[str, str]) -> None:
    cache, key = EngineCache(tmp_path), replace(KEY, **other)
    cache.publish(KEY, b"a plan")
    assert cache.read(key) is None
    # Nor does a file under another key's name.
    for kind in ("engine", "json"):
        (tmp_path / f"{KEY.name()}.{kind}").rename(tmp_path / f"{key.name()}.{kind}")
    assert cache.read(key) is None


def test_a_changed_byte_is_never_deserialised(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    cache.publish(KEY, b"a plan")
    (tmp_path / f"{KEY.name()}.engine").write_bytes(b"a plaN")
    assert cache.read(KEY) is None
    assert list(tmp_path.iterdir()) == [], "forgotten, to be built again"


@pytest.mark.parametrize("kind", ["json", "engine"])
def test_half_of_it_is_none_of_it(tmp_path: Path, kind: str) -> None:
    """A process that ended between the two files, or a disk that lost one."""
    cache = EngineCache(tmp_path)
    cache.publish(KEY, b"a plan")
    (tmp_path / f"{KEY.name()}.{kind}").unlink()
    assert cache.read(KEY) is None
    assert cache.obtain(KEY, lambda: b"built again") == b"built again"
    assert cache.read(KEY) == b"built again"


@pytest.mark.parametrize("text", [b"", b"{}", b"[1", b"\xff"], ids=range(4))
def test_a_damaged_record_is_no_record(tmp_path: Path, text: bytes) -> None:
    cache = EngineCache(tmp_path)
    cache.publish(KEY, b"a plan")
    (tmp_path / f"{KEY.name()}.json").write_bytes(text)
    assert cache.read(KEY) is None


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")

    def fails() -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.obtain(KEY, fails)
    assert cache.read(KEY) is None
    assert not (tmp_path / "engines").exists()


def test_what_is_there_is_not_built_again(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    built: list[int] = []

    def build() -> bytes:
        built.append(1)
        return b"a plan"

    assert {cache.obtain(KEY, build) for _ in range(3)} == {b"a plan"}
    assert built == [1]


def test_compiled_kernels_go_with_their_engine(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    assert cache.kernels(KEY) == b""
    cache.publish(KEY, b"a plan")
    cache.keep_kernels(KEY, b"kernels")
    assert EngineCache(tmp_path).kernels(KEY) == b"kernels"
    cache.publish(KEY, b"another plan")
    assert cache.kernels(KEY) == b""


def test_a_place_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file")
    with pytest.raises(OutputError, match="cannot be kept") as caught:
        EngineCache(tmp_path / "engines").publish(KEY, b"a plan")
    assert "--state" in caught.value.hint
    EngineCache(tmp_path / "engines").keep_kernels(
        KEY, b"kernels"
    )  # costs the next process its time, no more


def test_nothing_hidden_stays_behind(tmp_path: Path) -> None:
    EngineCache(tmp_path).publish(KEY, os.urandom(1000))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".engine", ".json"]
