"""Numbers with their unit, for people."""


def filesize(n_bytes: float) -> str:
    """31,240 → '31.2 kB'."""
    size, units = float(n_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} B" if units[0] == "B" else f"{size:,.1f} {units[0]}"
