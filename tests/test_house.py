"""The house stands as the design says: quick to start, no heavy imports, short files, documented codes."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli import PROGRAM

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "export", "kernels", "calibration", "bench")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
FUNCTIONS = [
    (path, node)
    for path, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_help_takes_less_than_300_ms() -> None:
    """The quickest of several, in processor time: a busy machine is not ours to measure."""
    taken = []
    for _ in range(5):
        before = os.times()
        subprocess.run([*PROGRAM, "--help"], capture_output=True, check=True)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        taken.append(used)
    assert min(taken) < 0.3, taken


@pytest.mark.parametrize("command", ["run", "inspect", "phantom", "doctor", "verify", "compile", "bench"])
def test_every_command_has_help_of_its_own(command: str) -> None:
    ran = subprocess.run([*PROGRAM, command, "--help"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("Usage: npc-edge " + command)


def loaded_by(code: str) -> set[str]:
    """The top-level modules a fresh interpreter holds after `code`."""
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {module.partition(".")[0] for module in printed.split()}


def test_the_engine_loads_nothing_only_training_needs() -> None:
    loaded = loaded_by("import npc_edge.engine.session")
    assert "numpy" in loaded
    assert not loaded & {"torch", "onnx", "onnxscript", "scipy", "sklearn", "monai", "nibabel", "openvino"}


def test_help_loads_no_numbers() -> None:
    assert not loaded_by("import npc_edge.engine.cli.app") & {"numpy", "pydicom", "SimpleITK", "onnxruntime"}


def test_every_module_imports_without_what_is_optional() -> None:
    """A plain install has neither torch nor scipy: all but the recipe, peers and the exporter do without."""
    optional = ("torch", "onnx", "onnxscript", "nibabel", "scipy", "openvino", "tensorrt", "tensorrt_rtx")
    optional += ("cuda", "pycuda")
    modules = [
        "npc_edge." + name(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in SOURCES
        if not name(path).startswith(("bench/demo/", "bench/peers/", "export/"))
        and path.name != "__main__.py"
    ]
    code = f"import importlib, sys\nfor name in {optional}: sys.modules[name] = None\n"
    code += f"for name in {modules}: importlib.import_module(name)"
    ran = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_stay_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_functions_stay_short_enough_to_read() -> None:
    long = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path, node in FUNCTIONS
        if (node.end_lineno or 0) - node.lineno + 1 > 60 and not _is_command(path)
    ]
    assert long == []


def test_parameter_lists_stay_short() -> None:
    long = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path, node in FUNCTIONS
        if len(node.args.args) + len(node.args.kwonlyargs) > 7 + _has_self(node) and not _is_command(path)
    ]
    assert long == []


def _is_command(path: Path) -> bool:
    """A command's signature is its option list."""
    return name(path).startswith("engine/cli/")


def _has_self(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return int(bool(node.args.args) and node.args.args[0].arg in ("self", "cls"))


def test_every_module_says_what_it_is_for() -> None:
    assert [name(path) for path, tree in TREES.items() if tree.body and not ast.get_docstring(tree)] == []


def test_one_file_a_runtime_imports_it() -> None:
    """TensorRT, plain and RTX, has two: its builder beside its runner."""
    allowed = {
        "onnxruntime": {"onnxruntime.py"},
        "openvino": {"openvino.py"},
        "tensorrt": {"tensorrt.py", "tensorrt_build.py"},
        "tensorrt_rtx": {"tensorrt.py", "tensorrt_build.py"},
    }
    for runtime, files in allowed.items():
        importers = {
            path.name for path, tree in TREES.items() if runtime in _imported(tree) and "engine" in path.parts
        }
        assert importers <= files


def _imported(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def test_environment_is_read_by_the_command_line_alone() -> None:
    """Setting a variable for the reading child's own libraries is no reading."""
    readers = [
        name(path)
        for path, tree in TREES.items()
        if name(path).startswith(("engine/", "kernels/", "calibration/"))
        and not name(path).startswith("engine/cli/")
        and _reads_environment(tree)
    ]
    assert readers == []


def _reads_environment(tree: ast.Module) -> bool:
    nodes = list(ast.walk(tree))
    asked = [n for n in nodes if isinstance(n, ast.Attribute) and n.attr in ("environ", "getenv")]
    stored = [n.value for n in nodes if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)]
    return any(not any(node is value for value in stored) for node in asked)


def raised_codes() -> set[str]:
    """Every reason code the engine can give: first arguments of Refusal(...) and constants in that style."""
    found = {"DEADLINE"}
    for path, tree in TREES.items():
        if not name(path).startswith("engine/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_every_reason_code_is_documented_and_tested() -> None:
    rows = set(re.findall(r"^\|\s*`([A-Z0-9_]+)`", (ROOT / "docs" / "reasons.md").read_text("utf-8"), re.M))
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    raised = raised_codes()
    assert raised - rows == set()
    assert {code for code in raised if code not in tests} == set()


def test_the_embedded_bundle_is_small() -> None:
    bundle = ROOT / "engine" / "demo_bundle"
    assert sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) <= 12_000_000
    assert (bundle / "manifest.json").is_file()


def test_no_private_key_lies_in_the_repository() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / path for path in tracked.stdout.split("\0") if path]
    marker = b"PRIVATE" + b" KEY-----"
    assert [name(path) for path in files if path.is_file() and marker in path.read_bytes()] == []
    assert [name(path) for path in files if path.suffix == ".key"] == []
