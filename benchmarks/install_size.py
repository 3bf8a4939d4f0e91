"""What an installation weighs: the base dependencies of pyproject.toml in this environment.

    python -m benchmarks.install_size

Prints, in MB of files, the whole, torch's CUDA libraries among it, and what would leave with each
dependency alone.
"""

import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
_CUDA = ("nvidia-", "cuda-", "triton")


def installed(requirements: list[str]) -> dict[str, Distribution]:
    """Return all distributions that the requirements bring along, by name."""
    found: dict[str, Distribution] = {}
    looked_at: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        wanted, of_extra = waiting.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": of_extra}):
            continue
        for extra in ("", *sorted(wanted.extras)):
            if (wanted.name.lower(), extra) in looked_at:
                continue
            looked_at.add((wanted.name.lower(), extra))
            try:
                package = distribution(wanted.name)
            except PackageNotFoundError:
                print(f"not installed, so not counted: {wanted}", file=sys.stderr)
                continue
            found[wanted.name.lower()] = package
            waiting += [(Requirement(text), extra) for text in package.requires or ()]
    return found


def megabytes(packages: dict[str, Distribution]) -> float:
    files = [file for package in packages.values() for file in package.files or ()]
    sizes = (Path(str(file.locate())) for file in files)
    return sum(path.stat().st_size for path in sizes if path.exists()) / 1e6


def main() -> None:
    base = tomllib.loads(_PYPROJECT.read_text("utf-8"))["project"]["dependencies"]
    everything = installed(base)
    cuda = {name: package for name, package in everything.items() if name.startswith(_CUDA)}
    whole = megabytes(everything)
    print(f"{whole:8.0f}  all {len(everything)} packages")
    print(f"{megabytes(cuda):8.0f}  of them torch's CUDA libraries and Triton")
    alone = {each: whole - megabytes(installed([r for r in base if r != each])) for each in base}
    for each, n in sorted(alone.items(), key=lambda item: -item[1]):
        print(f"{n:8.0f}  leaves with {each}")
    torch = megabytes(installed(["torch"])) - megabytes(cuda)
    print(f"{torch:8.0f}  torch and what else it needs")


if __name__ == "__main__":
    main()
