"""Say of LPIPS before work starts whether its weights are there, and how much it will do."""

from collections.abc import Mapping
from contextlib import suppress

from dcd.config import RunConfig, SelectionConfig
from dcd.errors import DCDError
from dcd.validation.inventory import Inventory
from dcd.validation.problems import Problem, noting
from dcd.validation.splits import read_members


def lpips_problems(
    config: RunConfig,
    selections: Mapping[str, SelectionConfig],
    inventories: Mapping[str, Inventory] | None = None,
) -> list[Problem]:
    """Find faults of the LPIPS of some selections, by their places in the config.

    Failures are those of the error sample at the first seed, as far as they can be counted without
    embedding; registered ones come on top.
    """
    wanted = {place: s.lpips for place, s in selections.items() if s.lpips is not None}
    n_failures = _n_failures(config, inventories or {}) if wanted else 0
    problems: list[Problem] = []
    for place, lpips in wanted.items():
        from dcd.selection.rerank import open_lpips

        with noting(problems, f"{place}.lpips"):
            open_lpips(lpips, n_failures)
    return problems


def _n_failures(config: RunConfig, inventories: Mapping[str, Inventory]) -> int:
    data = config.dataset("error_sample", config.seeds[0])
    if data is None:
        return 0
    with suppress(DCDError):  # what is wrong with the error sample is said where it is checked
        members = read_members("error_sample", data, inventories.get(data.images))
        return 0 if members is None else len(members.label_of)
    return 0
