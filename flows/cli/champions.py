"""Commands about the champion: `dcd champions`, `dcd promote`, `dcd rollback`."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import FoundPath, StoreUrl, explained, plain_console
from flows.cli.show.as_json import write_json
from flows.cli.show.tables import Table

if TYPE_CHECKING:
    from dcd.gate.champions import Champion, HistoryRow


app = typer.Typer()


@app.command()
def champions(
    store: StoreUrl = "store",
    mend: Annotated[
        bool, typer.Option("--mend", help="Put the newest whole note in force, if there is need.")
    ] = False,
    json_file: FoundPath = None,
) -> None:
    """List the champion and those before it."""
    from dcd.errors import ObjectUnreadable
    from dcd.gate.champions import current, history
    from dcd.gate.champions import mend as put_in_force
    from dcd.store.store_format import open_store

    with explained():
        opened = open_store(store)
        if mend:
            try:
                current(opened)
            except ObjectUnreadable:
                _tell(store, put_in_force(opened))
        rows = history(opened)
        write_json(json_file, [_as_json(row) for row in rows])
    if not rows:
        typer.echo(f"{store}: no champion yet; `dcd run` promotes what its gate lets pass")
        return
    plain_console().print(_table(rows))


@app.command()
def promote(
    run: Annotated[str, typer.Argument(help="Id of a finished run.", metavar="RUN")],
    store: StoreUrl = "store",
    seed: Annotated[
        int | None, typer.Option(help="Whose model; default: that of the gate's candidate.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Promote what the gate did not let pass.")] = False,
) -> None:
    """Make a run's model the champion."""
    from dcd.gate.promotion import promote_by_hand
    from dcd.store.store_format import open_store

    with explained():
        _tell(store, promote_by_hand(open_store(store), run, seed, force))


@app.command()
def rollback(store: StoreUrl = "store") -> None:
    """Return to the champion before the present one."""
    from dcd.gate import champions
    from dcd.store.store_format import open_store

    with explained():
        _tell(store, champions.rollback(open_store(store)))


def _as_json(row: "HistoryRow") -> dict[str, object]:
    champion = row.champion
    return {
        "place": row.place,
        "since": champion.at.isoformat(),
        "run_id": champion.run_id,
        "seed": champion.seed,
        "model": champion.model,
        "action": champion.action,
        "reasons": list(champion.reasons),
    }


def _tell(store: str, champion: "Champion") -> None:
    typer.echo(f"Champion: {champion.run_id} (seed {champion.seed})")
    typer.echo(f"Model: {store.rstrip('/')}/{champion.model}")


def _table(rows: "tuple[HistoryRow, ...]") -> Table:
    table = Table(title="Champions, the latest first", title_justify="left")
    for heading in ("", "since (UTC)", "run", "seed", "by", "why"):
        table.add_column(heading, overflow="fold")
    words = {"now": "now", "before": "before", "never": "never in force"}
    for row in rows:
        champion = row.champion
        table.add_row(
            words[row.place],
            champion.at.strftime("%Y-%m-%d %H:%M:%S"),
            champion.run_id,
            str(champion.seed),
            champion.action,
            " ".join(champion.reasons),
            style="bold" if row.place == "now" else "dim" if row.place == "never" else None,
        )
    return table
