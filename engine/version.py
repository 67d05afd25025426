"""The version, in one place for everything that records it."""

from importlib.metadata import version

VERSION = version("npc-edge")
