"""Write what a command found for programs. docs/terminal.md lists the keys, a test compares."""

import json
from pathlib import Path


def write_json(file: Path | None, found: object) -> None:
    """Write what was found into the file that --json named, if it named one."""
    if file is not None:
        text = json.dumps(found, indent=1, ensure_ascii=False)
        file.write_text(f"{text}\n", encoding="utf-8")
