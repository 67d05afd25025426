"""The command line: the only composition root. Heavy imports stay inside each command's function.

Exit codes: 0 a result, 1 a bug, 2 usage, 3 no result, 4 bundle, 5 backend, 6 output, 7 deadline or cancelled,
8 `bench --check` found a regression.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from typing import NoReturn

import typer

from npc_edge.engine.cli import (
    bench,
    compile,
    doctor,
    export,
    export_nnunet,
    inspect,
    keygen,
    monitor,
    monitor_truth,
    monitor_watch,
    phantom,
    quantize,
    run,
    schema,
    verify,
)
from npc_edge.engine.cli.terminal import complain
from npc_edge.engine.errors import NpcEdgeError, OutputError
from npc_edge.engine.machine import GC_THRESHOLD

app = typer.Typer(
    name="npc-edge",
    help="Nasopharyngeal carcinoma on non-contrast MRI: probability, mask, T category and why. "
    "Research use only; not a medical device.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("inspect")(inspect.inspect)
app.command("phantom")(phantom.phantom)
app.command("verify")(verify.verify)
app.command("quantize")(quantize.quantize)
app.command("compile")(compile.compile_)
app.command("bench")(bench.bench)
app.command("keygen")(keygen.keygen)
app.command("schema")(schema.schema)
app.command("doctor")(doctor.doctor)

export_app = typer.Typer(
    help="Make a signed bundle of a trained network.", rich_markup_mode=None, no_args_is_help=False
)
export_app.command("torch")(export.torch)
export_app.command("onnx")(export.onnx)
export_app.command("monai")(export.monai)
export_app.command("nnunet")(export_nnunet.export_nnunet)
app.add_typer(export_app, name="export")

monitor_app = typer.Typer(
    help="What was recorded of the runs, what became known of them, and whether the model still holds.",
    rich_markup_mode=None,
    no_args_is_help=False,
)
monitor_app.command("status")(monitor_watch.status)
monitor_app.command("report")(monitor_watch.report)
monitor_app.command("truth")(monitor_truth.truth)
monitor_app.command("alias")(monitor.alias)
monitor_app.command("acknowledge")(monitor_watch.acknowledge)
monitor_app.command("export")(monitor_watch.export)
monitor_app.command("forget")(monitor.forget)
monitor_app.command("backup")(monitor.backup)
app.add_typer(monitor_app, name="monitor")


_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the code of the error tree; one line on standard error unless 0."""
    gc.set_threshold(*GC_THRESHOLD)
    given = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in given
    if debug:
        given.remove("--debug")
    sys.exit(_guarded(given, debug))


def command() -> NoReturn:
    """`main` as a process, which ends when its work has ended.

    Every child, file and thread is closed by then; taking modules and libraries down one by one, after that,
    took 0.2 s of a run.
    """
    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    os._exit(_flushed(code if isinstance(code, int) else 1))


def _flushed(code: int) -> int:
    """The code to end with once all that was printed has left: 6 where it could not be written."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except BrokenPipeError:  # its reader has gone, and wants no more
            continue
        except OSError:
            code = code or OutputError.exit_code
    return code


def _guarded(arguments: list[str], debug: bool) -> int:
    try:
        returned = app(args=arguments, prog_name="npc-edge", standalone_mode=False)
        return returned if isinstance(returned, int) else 0
    except typer.TyperException as error:
        return complain(f"{error.format_message()} See npc-edge --help.", 2)
    except (typer.Abort, KeyboardInterrupt):
        return complain("cancelled", 7)
    except NpcEdgeError as error:
        if debug:
            raise
        return complain(error.one_line(), error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:  # the last boundary: a bug must still end in one line
        if debug:
            raise
        if isinstance(error, OSError) and error.errno in _FULL:  # of standard output
            return complain(f"cannot print: {error.strerror}", OutputError.exit_code)
        return complain(
            f"unexpected {type(error).__name__}, a bug in npc-edge; run again with --debug and report it",
            1,
        )


if __name__ == "__main__":
    command()
