"""The state directory: private, made once, the same for everyone who starts together."""

import hashlib
import hmac
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npc_edge.engine.errors import BundleError, OutputError
from npc_edge.engine.state import State
from npc_edge.export.sign import public_bytes, read_key, write_keys

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")


def test_the_salt_is_made_once(tmp_path: Path) -> None:
    first = State.open(tmp_path / "deep" / "state")
    again = State.open(tmp_path / "deep" / "state")
    assert len(first.salt) == 32
    assert first.salt == again.salt != State.open(tmp_path / "other").salt
    assert sorted(p.name for p in first.root.iterdir()) == ["salt"]


@POSIX
def test_nobody_else_may_look(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir(mode=0o755)
    loose.chmod(0o755)
    for path in (tmp_path / "new", loose):
        state = State.open(path)
        assert stat.S_IMODE(state.root.stat().st_mode) == 0o700
        assert stat.S_IMODE((state.root / "salt").stat().st_mode) == 0o600


def test_two_that_start_together_share_a_salt(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from npc_edge.engine.state import State\n"
    code += "sys.stdin.readline(); print(State.open(Path(sys.argv[1])).salt.hex())"
    command = [sys.executable, "-c", code, str(tmp_path / "state")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    salts = {child.communicate(timeout=120)[0].strip() for child in children}
    assert len(salts) == 1
    assert len(salts.pop()) == 64


def test_a_study_key_is_a_salted_hash(tmp_path: Path) -> None:
    state = State.open(tmp_path / "state")
    expected = hmac.new(state.salt, b"1.2.840.1", hashlib.sha256).hexdigest()[:32]
    assert state.key_for("1.2.840.1") == expected
    assert state.key_for("1.2.840.2") != expected


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_damaged_salt_is_never_replaced(tmp_path: Path, size: int) -> None:
    (tmp_path / "salt").write_bytes(b"x" * size)
    with pytest.raises(OutputError, match="damaged"):
        State.open(tmp_path)
    assert (tmp_path / "salt").stat().st_size == size


def test_trusted_keys_are_read_and_bad_ones_named(tmp_path: Path) -> None:
    state = State.open(tmp_path / "state")
    assert state.keys() == ()
    keys = state.root / "keys"
    keys.mkdir()
    private, public = write_keys(tmp_path / "maker")
    public.rename(keys / "maker.pub")
    raw = public_bytes(Ed25519PrivateKey.generate())
    (keys / "a.pub").write_bytes(raw)
    (keys / "notes.txt").write_text("not a key")
    assert state.keys() == (raw, public_bytes(read_key(private)))
    (keys / "bad.pub").write_text("not a key")
    with pytest.raises(BundleError, match=r"bad\.pub"):
        state.keys()


def test_a_place_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "state", tmp_path / "file"):
        with pytest.raises(OutputError) as caught:
            State.open(path)
        assert caught.value.exit_code == 6
        assert "--state" in caught.value.hint


@pytest.mark.skipif(sys.platform != "linux", reason="uses /proc, which even root cannot write to")
def test_a_home_that_cannot_be_written_says_what_to_do() -> None:
    environment = {**os.environ, "HOME": "/proc/1"}
    code = "from npc_edge.engine.state import State; State.open(None)"
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "OutputError" in ran.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the home folder is HOME only here")
def test_the_default_lies_in_the_home_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    code = "from npc_edge.engine.state import State; State.open(None)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert len((tmp_path / ".local" / "state" / "npc-edge" / "salt").read_bytes()) == 32
