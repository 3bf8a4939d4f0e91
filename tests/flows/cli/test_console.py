"""What is printed is text, whatever labels, modes and reasons look like."""

import io

import pytest
from rich.table import Table

from flows.cli.console import plain_console
from flows.cli.terminal import Bars

HOSTILE = ("[/x]", "[red]wine[/red]", "[link=file:///etc/passwd]a[/link]", ":smile:")


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_is_printed_as_it_is(capsys, text):
    table = Table("label")
    table.add_row(text)
    console = plain_console()
    console.print(text)
    console.print(table)
    assert capsys.readouterr().out.count(text) == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_bars_show_markup_as_it_is(text):
    console = plain_console()
    console.file = io.StringIO()
    with Bars(console) as bars:
        bars.started(text, 2, text)
        bars.noted(text, text)
        bars.finished(text, text)
    assert text in console.file.getvalue()
