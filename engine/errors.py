"""The error tree. One exit code a branch; foreign exceptions are translated where the foreign call is made.

    NpcEdgeError                     exit 1   (never raised itself)
    ├── UsageError                   exit 2   a path that is not there, options that contradict each other
    ├── Refusal                      exit 3   this study gets no result; carries a reason code
    ├── BundleError                  exit 4   the bundle is missing, altered, unsigned, untrusted or invalid
    ├── BackendError                 exit 5   the backend, device or precision asked for is not there
    ├── OutputError                  exit 6   the output cannot be written
    └── Cancelled                    exit 7   deadline passed or cancelled
        └── DeadlineExceeded
Anything else that escapes is a bug: exit 1.
"""

from __future__ import annotations

from typing import ClassVar


class NpcEdgeError(Exception):
    """Base of every error npc-edge raises on purpose. `hint` says what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def one_line(self) -> str:
        """The message and the hint on one line, as the command line prints it."""
        text = f"{self.message}; {self.hint}" if self.hint else self.message
        return " ".join(text.split())


class UsageError(NpcEdgeError):
    """The caller asked for something that makes no sense."""

    exit_code = 2


class Refusal(NpcEdgeError):
    """The study gets no result. The pipeline turns it into an outcome; it is not a fault.

    `code` is one of the reason codes of `docs/reasons.md`.
    """

    exit_code = 3

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


class BundleError(NpcEdgeError):
    """The bundle is missing or invalid."""

    exit_code = 4


class BackendError(NpcEdgeError):
    """The backend, device or precision asked for is not there."""

    exit_code = 5


class OutputError(NpcEdgeError):
    """The output cannot be written."""

    exit_code = 6


class Cancelled(NpcEdgeError):
    """The caller cancelled the run."""

    exit_code = 7


class DeadlineExceeded(Cancelled):
    """The deadline passed before the result was complete."""
