"""Nothing leaves the machine: a run in an empty network namespace, CI unset, tries no connection."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import outside
import pytest
from cli import run

from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom

_REACHES_OUT = re.compile(r"\b(connect|sendto|sendmsg|sendmmsg|bind)\(.*\bsa_family=AF_INET6?\b")


def empty_namespace() -> list[str]:
    """The words that put what follows into a network namespace without so much as a loopback."""
    unshare = outside.tool("unshare")
    for words in ([unshare, "--net"], [unshare, "--net", "--map-root-user"]):
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            return words
    return outside.missing("this user may not make a network namespace")


def without_ci(home: Path) -> dict[str, str]:
    """The environment of a person at home: no CI, which some libraries take as a wish for silence."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "XDG_STATE_HOME")}
    return {**kept, "HOME": str(home)}


def test_a_run_tries_no_connection(tmp_path: Path) -> None:
    spec = PhantomSpec("T2", seed=12, matrix=192, slices=24)
    study = write_phantom(spec, tmp_path / "phantom") / "study"
    trace = tmp_path / "trace"
    strace = [outside.tool("strace"), "-f", "-qq", "-e", "trace=network", "-o", str(trace)]
    before = [*empty_namespace(), *strace]
    ran = run("run", study, "--out", tmp_path / "out", "--json", env=without_ci(tmp_path), before=before)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["outcome"] == "result"
    calls = trace.read_text().splitlines()
    assert [call for call in calls if _REACHES_OUT.search(call)] == []
    left = [path.name for path in tmp_path.iterdir()]
    assert sorted(left) == [".local", "out", "phantom", "trace"], "something keeps a file of its own at home"


RUNTIMES = {
    "onnxruntime": "OnnxRuntimeRunner",
    "openvino": "OpenVinoRunner",
}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_stays_silent_however_long_it_runs(runtime: str, tmp_path: Path) -> None:
    """Loaded, made to run the embedded locator, and left for as long as a late call home would take."""
    trace = tmp_path / "trace"
    strace = [outside.tool("strace"), "-f", "-qq", "-e", "trace=network", "-o", str(trace)]
    wait = f"""
import time
import numpy as np
from npc_edge.engine.model.bundle import load
from npc_edge.engine.model.runners.{runtime} import {RUNTIMES[runtime]} as Runner
bundle = load(None)
network = bundle.manifest.networks[0]
image = np.zeros((1, len(network.inputs), *network.window), np.float32)
with Runner(bundle.artefact(network.name, "fp32"), threads=1, precision="fp32") as runner:
    runner.infer({{"image": image}})
time.sleep(8)
"""
    command = [*empty_namespace(), *strace, sys.executable, "-c", wait]
    subprocess.run(command, check=True, env=without_ci(tmp_path))
    assert [call for call in trace.read_text().splitlines() if _REACHES_OUT.search(call)] == []
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]


def test_the_trace_would_show_a_connection(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    strace = [outside.tool("strace"), "-f", "-qq", "-e", "trace=network", "-o", str(trace)]
    reach_out = (
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect_ex(('192.0.2.1', 53))"
    )
    subprocess.run([*empty_namespace(), *strace, "python3", "-c", reach_out], check=True)
    assert any(_REACHES_OUT.search(call) for call in trace.read_text().splitlines())
