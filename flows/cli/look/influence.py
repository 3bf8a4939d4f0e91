"""`dcd influence`: which training images an answer hangs on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.console import FoundPath, StoreUrl, explained, in_a_folder, plain_console
from flows.cli.show.as_json import write_json
from flows.cli.show.tables import Table

if TYPE_CHECKING:
    from dcd.influence.of_run import Explanation

_SHOWN, _ON_PAGE, _IN_JSON = 8, 24, 100  # on each side


def influence(
    failure: Annotated[
        str, typer.Argument(help="Image id, picture file, or content of a registered failure.")
    ],
    run: Annotated[str | None, typer.Option(help="The run; default: the newest.")] = None,
    store: StoreUrl = "store",
    label: Annotated[
        str | None, typer.Option(help="True label of a picture that the run does not have.")
    ] = None,
    method: Annotated[str, typer.Option(help="Whose model: selected or none.")] = "selected",
    check: Annotated[
        int, typer.Option(min=0, help="Leave out so many images and fit again, to compare.")
    ] = 0,
    html: Annotated[Path, typer.Option(help="Where the page goes.", callback=in_a_folder)] = Path(
        "influence.html"
    ),
    json_file: FoundPath = None,
) -> None:
    """Show the train and pool images whose removal would change a model's answer most."""
    with explained():
        from dcd.errors import DataError
        from dcd.influence.of_run import as_json, explain_failure
        from dcd.influence.page import render
        from dcd.runs.finished import run_or_newest
        from dcd.store.store_format import open_store

        if method not in ("selected", "none"):
            raise DataError(f"--method: {method!r:.60} is none of selected, none")
        opened = open_store(store)
        run_id = run_or_newest(opened, run)
        found = explain_failure(opened, run_id, failure, label, method, check)
        html.write_text(render(opened, found, _ON_PAGE), encoding="utf-8")
    console = plain_console()
    for sentence in _sentences(found):
        console.print(sentence)
    console.print(_table("Against the label: without it the margin rises", found.against(_SHOWN)))
    console.print(_table("For the label: without it the margin falls", found.in_favour(_SHOWN)))
    console.print(f"Page: {html}", soft_wrap=True)
    write_json(json_file, as_json(found, _IN_JSON))


def _sentences(found: "Explanation") -> list[str]:
    answer, failure, n = found.effects.answer, found.failure, found.images.num_rows
    said = [
        f"{failure.image_id} ({failure.split or 'in no split'}) is {failure.label}; "
        f"{found.method} of {found.run_id} says {found.predicted}: margin over {found.rival} "
        f"{answer.margin:.2f}, loss {answer.loss:.2f}.",
        f"The model: {found.model}, {n:,} images.",
    ]
    n_flip = found.effects.n_to_flip
    which = "no set of them" if n_flip is None else f"{n_flip:,} of them, taken out together,"
    said.append(f"By their single effects {which} would turn the answer.")
    if found.checked is not None:
        said.append(
            f"Checked by leaving out {len(found.checked.rows)} images and fitting again: rank "
            f"correlation {found.checked.rank_correlation:.3f}."
        )
    return said


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("margin", justify="right")
    table.add_column("loss", justify="right")
    table.add_column("from")
    table.add_column("label", overflow="fold", max_width=18)
    table.add_column("image", overflow="fold", max_width=28)
    for row in rows:
        effects = f"{row['margin']:+.3f}", f"{row['loss']:+.3f}"
        table.add_row(*effects, row["source"], row["label"], row["image_id"])
    return table
