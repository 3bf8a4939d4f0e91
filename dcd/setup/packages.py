"""Compare the installed packages with what this package asks for."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from dcd.setup.findings import Finding

PACKAGE = "data-centric-debugging"
_NOT_FOR_USERS = ("bench", "dev", "docs")


def package_findings() -> Iterator[Finding]:
    """Yield the version of this package, each dependency at fault, and the extras that are there.

    A package without metadata (a checkout that was never installed) is a fault.
    """
    try:
        yield Finding("dcd", "ok", version(PACKAGE))
        wanted = [Requirement(text) for text in requires(PACKAGE) or ()]
    except PackageNotFoundError:
        yield Finding("dcd", "fault", "is not installed", "make install, or pip install the wheel")
        return
    base = [each for each in wanted if _applies(each, "")]
    wrong = [finding for each in base if (finding := _fault(each)) is not None]
    yield from wrong
    if not wrong:
        yield Finding("dependencies", "ok", f"{len(base)} there, of versions that fit")
    for extra in sorted({name for each in wanted for name in _extras_of(each)}):
        if extra not in _NOT_FOR_USERS:
            yield _extra(extra, [each for each in wanted if extra in _extras_of(each)])


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _extras_of(requirement: Requirement) -> list[str]:
    """The extra that a requirement belongs to, as its marker names it."""
    _, found, name = str(requirement.marker or "").partition("extra == ")
    return [name.split('"')[1]] if found else []


def _fault(wanted: Requirement) -> Finding | None:
    mend = f"pip install '{wanted.name}{wanted.specifier}'"
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return Finding(wanted.name, "fault", "is not installed", mend)
    if wanted.specifier.contains(found, prereleases=True):
        return None
    return Finding(wanted.name, "fault", f"{found} found, {wanted.specifier} expected", mend)


def _extra(name: str, wanted: list[Requirement]) -> Finding:
    if all(_fault(each) is None for each in wanted):
        return Finding(f"extra {name}", "ok", "is there")
    return Finding(f"extra {name}", "note", "is not there", f"pip install '{PACKAGE}[{name}]'")
