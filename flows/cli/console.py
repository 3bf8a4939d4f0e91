"""Share what all commands need: common arguments, Prefect's settings, errors in plain words."""

import atexit
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from dcd.errors import ConfigError, DCDError
from dcd.progress import live
from flows.cli.show.progress import progress_shown

if TYPE_CHECKING:
    from dcd.config import RunConfig
    from dcd.validation.problems import Findings, Problem

ConfigPath = Annotated[Path, typer.Argument(help="The run's YAML config.", metavar="CONFIG.yaml")]


def in_a_folder(file: Path | None) -> Path | None:
    """Refuse, before any work, a file that cannot be written when it is done."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise typer.BadParameter(f"{file}: give a file in a folder that exists")
    if file is not None and not os.access(file if file.exists() else file.parent, os.W_OK):
        raise typer.BadParameter(f"{file}: may not be written; give a file elsewhere")
    return file


def no_file(folder: Path | None) -> Path | None:
    """Refuse, before any work, a folder for results whose name a file has."""
    above = folder
    while above is not None and not above.exists() and above != above.parent:
        above = above.parent
    if above is not None and not above.is_dir():
        raise typer.BadParameter(f"{above}: is a file; give a folder")
    return folder


JsonPath = Annotated[
    Path | None,
    typer.Option("--json", help="Write the run's metrics to this file.", callback=in_a_folder),
]
FoundPath = Annotated[
    Path | None,
    typer.Option("--json", help="Write what was found to this file.", callback=in_a_folder),
]
StoreUrl = Annotated[
    str,
    typer.Option("--store", envvar="DCD_STORE", help="The store: a folder or s3://bucket/prefix."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log.")]
EXIT_FAILED, EXIT_BAD_CONFIG, EXIT_INTERRUPTED = 1, 2, 130
_LEAVE_S = 10.0
_NOT_PRINTED = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EPIPE)
_NOT_WAITED = (
    b"Stopped. What still worked was not waited for; nothing in the store is half-written.\n"
)


def plain_console(*, stderr: bool = False) -> Console:
    """Return the terminal that all commands print tables and sentences to.

    Labels, modes, ids and reasons are text, whatever they look like: `[/x]` is no markup.
    """
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def complain(message: object) -> None:
    """Say what is wrong, in red on a terminal unless NO_COLOR is set."""
    plain_console(stderr=True).print(str(message), style="red", soft_wrap=True)


def configure_prefect(verbose: bool) -> None:
    """Set Prefect up for a run without a server; what the user has set stays."""
    settings = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "dcd",
        # What dcd logs outside a flow is no fault of the user's: Prefect warns of each such line.
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        # The first start migrates a database, which takes longer than the default on slow disks.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


@contextmanager
def prefect_server(verbose: bool) -> Iterator[Callable[[], None]]:
    """Run a Prefect server for the block, as `temporary_server`; enter it before slow imports."""
    configure_prefect(verbose)
    from flows.server.temporary import temporary_server  # imports Prefect, after its settings

    with temporary_server() as ready:

        def waited() -> None:
            with live.stage("wait for Prefect"):
                ready()

        yield waited


def leaving(command: Callable[[], object], leave_s: float = _LEAVE_S) -> NoReturn:
    """Run a command and leave with its exit code, without tearing the interpreter down.

    Registered clean-up runs; an unexpected error keeps its trace. Ctrl-C ends the process within
    leave_s; a second one ends it at once.
    """
    _leave_when_interrupted(leave_s)
    # Taking torch, OpenVINO and Prefect down is many times as long as leaving (5.8 s against 0.4 s
    # on two busy cores), and Prefect's event loops, which nothing ends, hold DuckDB's objects then,
    # of which its bindings print a page.
    code = 0
    try:
        command()
    except SystemExit as done:
        if isinstance(done.code, str):
            print(done.code, file=sys.stderr)
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
    except OSError as err:
        if err.errno not in _NOT_PRINTED or err.filename is not None:
            raise
        code = _say_not_printed(err)
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # pyright: ignore[reportUnnecessaryComparison]  # closed
                stream.flush()
    except OSError as err:
        code = _say_not_printed(err)
    os._exit(code)


def _say_not_printed(err: OSError) -> int:
    """Say that what was to be printed had no room, as `> file` on a full disk; the exit code."""
    with suppress(OSError):
        os.write(2, f"the output cannot be written: {err.strerror}; send it elsewhere\n".encode())
    return 1


def _leave_when_interrupted(leave_s: float) -> None:
    """Bound what Ctrl-C waits for: Prefect joins threads that compute or wait for a store.

    It is as safe as a kill: objects appear whole or not at all, a temporary server ends with its
    parent, and the next process removes temporary folders.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # a shell that starts commands in the background lets them ignore it

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        last = threading.Timer(leave_s, _leave_now)
        last.daemon = True
        last.start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def _leave_now() -> NoReturn:
    os.write(2, _NOT_WAITED)  # whoever holds Python's standard error may be what is waited for
    os._exit(EXIT_INTERRUPTED)


@contextmanager
def explained(*, verbose: bool = False) -> Iterator[None]:
    """Show the progress of the block, and turn an expected error into its message and exit code.

    Any other error keeps its trace. verbose: Prefect's log is shown, so no live progress.
    """
    try:
        with progress_shown(plain_console(stderr=True), verbose=verbose):
            yield
    except ConfigError as error:
        for problem in error.problems:
            complain(problem)
        raise typer.Exit(EXIT_BAD_CONFIG) from None
    except DCDError as error:
        complain(f"{type(error).__name__}: {error}")
        raise typer.Exit(EXIT_FAILED) from None
    except OSError as error:  # files beside the store: temporary ones, results that users ask for
        from dcd.store.errors import no_room

        full = no_room(error)
        if full is None:
            raise
        place = error.filename2 or error.filename or f"the temporary folder {gettempdir()}"
        complain(f"{place}: {full}")
        raise typer.Exit(EXIT_FAILED) from None


def check(config: "RunConfig") -> None:
    """Tell what is passed over; raise ConfigError with all that is found wrong before work."""
    refuse(looked_through(config).problems)


def looked_through(config: "RunConfig") -> "Findings":
    """Look through a config and its data, and tell what is passed over."""
    with live.stage("load"):
        from dcd.validation.run import examine  # imports torch, which --help does not need

    findings = examine(config)
    for note in findings.notes:
        plain_console(stderr=True).print(
            f"{note.place}: note: {note.message}", style="yellow", soft_wrap=True
        )
    return findings


def refuse(problems: "Sequence[Problem]") -> None:
    """Raise ConfigError with all problems, if there are any."""
    if problems:
        raise ConfigError([f"{problem.place}: {problem.message}" for problem in problems])
