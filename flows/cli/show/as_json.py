"""Write what a command found for programs. docs/terminal.md lists the keys, a test compares."""

import json
from pathlib import Path

import typer

from flows.cli.console import EXIT_FAILED, complain


def write_json(file: Path | None, found: object) -> None:
    """Write what was found into the file that --json named, if it named one.

    Ends the command with a message if the file cannot be written.
    """
    if file is not None:
        text = json.dumps(found, indent=1, ensure_ascii=False)
        try:
            file.write_text(f"{text}\n", encoding="utf-8")
        except OSError as err:
            complain(f"--json {file}: cannot be written ({err.strerror}); the work itself is done")
            raise typer.Exit(EXIT_FAILED) from None
