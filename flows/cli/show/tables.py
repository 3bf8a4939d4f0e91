"""The tables of all commands: what does not fit is broken in two lines, and never cut."""

from typing import Any

from rich import table
from rich.console import OverflowMethod


class Table(table.Table):
    """rich's table, whose columns fold. The widest columns give way first: figures stay whole."""

    def add_column(self, *header: Any, overflow: OverflowMethod = "fold", **settings: Any) -> None:
        """Add a column as rich does."""
        super().add_column(*header, overflow=overflow, **settings)
