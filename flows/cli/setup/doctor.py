"""`dcd doctor`: whether this installation can work, and the line that mends what cannot."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import EXIT_FAILED, FoundPath, plain_console
from flows.cli.show.as_json import write_json

if TYPE_CHECKING:
    from dcd.setup.findings import Finding

_STYLES = {"ok": "green", "note": "yellow", "fault": "red"}


def doctor(
    store: Annotated[
        str | None,
        typer.Option(envvar="DCD_STORE", help="Try this store's rights and clock too."),
    ] = None,
    json_file: FoundPath = None,
) -> None:
    """Look at packages, processor, memory, store, clock and Prefect's server; say what mends."""
    from dcd.setup.machine import machine_findings, store_findings
    from dcd.setup.packages import package_findings

    found = [*machine_findings(), *package_findings(), _prefect()]
    if store is not None:
        found += store_findings(store)
    write_json(json_file, [asdict(each) for each in found])
    console = plain_console()
    for each in found:
        console.print(f"{each.state:5}", style=_STYLES[each.state], end="  ")
        console.print(f"{each.what}: {each.told}", soft_wrap=True)
        if each.mend is not None:
            console.print(f"       {each.mend}", soft_wrap=True)
    if any(each.state == "fault" for each in found):
        raise typer.Exit(EXIT_FAILED)


def _prefect() -> "Finding":
    from urllib.request import urlopen

    from dcd.setup.findings import Finding

    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return Finding("Prefect server", "ok", "none named; each run brings its own")
    try:
        with urlopen(f"{url.rstrip('/')}/health", timeout=5):
            return Finding("Prefect server", "ok", f"{url} answers")
    except (OSError, ValueError) as err:
        return Finding(
            "Prefect server",
            "fault",
            f"{url} does not answer ({err})",
            "start it (`dcd up CONFIG.yaml`), or unset PREFECT_API_URL",
        )
