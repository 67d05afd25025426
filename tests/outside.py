"""Tools from outside Python: a named skip where one is missing on a laptop, a failure in CI."""

import importlib
import os
import shutil
import warnings
from pathlib import Path
from typing import NoReturn

import pytest


def tool(name: str) -> str:
    """The tool's path; skips the test without it, or fails where CI is set."""
    found = shutil.which(name)
    return found if found else missing(f"the tool {name} is not installed")


def material(path: str) -> Path:
    """A file of a Debian package; skips the test without it, or fails where CI is set."""
    return Path(path) if Path(path).exists() else missing(f"{path} is not installed")


def package(name: str) -> None:
    """Import a Python package that only a test needs, its own warnings aside; skips or fails as above."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    except ImportError as error:
        missing(f"the Python package {error.name} is not installed")


def missing(what: str) -> NoReturn:
    """Skip by name; in CI, where everything must be there, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}; .ci/run installs it")
    pytest.skip(what)
