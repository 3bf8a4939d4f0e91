"""Write the first config of a case: what is known, the settings that people change, and why."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from dcd.config import DataConfig
from dcd.failures.collect import IMAGES, ROWS
from dcd.progress import live
from dcd.setup.cut import Cut, cut_failures, write_roles
from dcd.setup.places import Places
from dcd.sources.shards import decoded_images
from dcd.store.local_files import published

_LOOKED_AT = 32  # pictures, to tell their size
_SMALL_PX, _SMALL_INPUT = 64, 96  # CIFAR's 32 px are embedded at 96 in docs/results.md

_TEXT = """\
# Made by `dcd init`. Check it with `dcd validate {path}`, run it with `dcd run {path}`.
# Paths count from the folder where a command is called. A place may also be s3://bucket/prefix, a
# glob of tars or Parquet files, or a manifest (CSV or Parquet with a column `uri`).

name: {name}    # prefix of the run's id
store: {store}    # all that is derived goes here

# The huge set with weak labels: only chosen from. Beside class folders the label may stand in
# `label_column`; `label_map` is a table weak_label, label, where the pool speaks another language.
pool:
  images: {pool}
  # label_map: queries.csv
  # licence: CC BY 4.0     # goes into the model's card

# What the model was trained on, and what it must not get worse on.
train: {{images: {train}}}
test: {{images: {test}}}

# The failures, cut into three: error_sample drives the search and is trained on; the gate decides
# on debug_val; debug_heldout is looked at once, for the report.
{cut_words}
error_sample: &failures
  images: {failures}
  labels: {roles}
  where: role = 'error_sample'
debug_val: {{<<: *failures, where: role = 'debug_val'}}
debug_heldout: {{<<: *failures, where: role = 'debug_heldout'}}
failures: false            # true: add what was registered with `dcd failures add`

# The network that measures likeness: any timm model, or weights of your own (`checkpoint`).
encoder:
  model: tf_efficientnet_lite0
{input_size}
training:
  mode: head               # full: the whole network, see the page on training
gate:
  policy: auto             # promote what passes; decide: only say it; off

seeds: [0, 1, 2]           # each row of the table is trained once a seed
"""


@dataclass(frozen=True)
class FirstConfig:
    """What was written: the config, the table of roles that it names, and how it was cut."""

    config: Path
    roles: Path
    cut: Cut | None


def write_first_config(places: Places, name: str, store: str, path: Path) -> FirstConfig:
    """Cut the failures and write `path`, with the roles beside it as NAME-failures.csv.

    The output folder of `dcd errors` is taken as it was cut there. All places must be known.
    Raises DataError where the failures or the pool cannot be read or are too few.
    """
    if None in (places.pool, places.train, places.test, places.failures):
        raise ValueError("all places must be known")
    side = _usual_side(str(places.pool))
    collected = _collected(str(places.failures))
    if collected is None:
        failures, roles = str(places.failures), path.with_name(f"{path.stem}-failures.csv")
        with live.stage("look at the failures"):
            cut = cut_failures(failures)
        write_roles(roles, cut)
        cut_words = (
            f"# `dcd init` cut them by their content: {_in_words(cut)}.\n"
            f"# Frames of one burst are no copies: put each burst into one role, in {roles.name}."
        )
    else:
        failures, roles = (str(found) for found in collected)
        cut, cut_words = None, "# `dcd errors` cut them."
    text = _TEXT.format(
        path=path,
        name=_quoted(name),
        store=_quoted(store),
        pool=_quoted(str(places.pool)),
        train=_quoted(str(places.train)),
        test=_quoted(str(places.test)),
        failures=_quoted(failures),
        roles=_quoted(str(roles)),
        cut_words=cut_words,
        input_size=_input_size(side),
    )
    with published(str(path)) as file:
        file.write(text.encode())
    return FirstConfig(path, Path(roles), cut)


def _collected(failures: str) -> tuple[Path, Path] | None:
    """Return images and roles of a folder that `dcd errors` wrote; None for any other place."""
    images, rows = Path(failures, IMAGES), Path(failures, ROWS)
    return (images, rows) if images.is_file() and rows.is_file() else None


def _usual_side(images: str) -> int | None:
    """Return the median of the shorter sides of some pictures; None if none can be decoded."""
    pixels = islice(decoded_images(DataConfig(images=images)), _LOOKED_AT)
    sides = [min(one.shape[:2]) for one in pixels]
    return int(np.median(sides)) if sides else None


def _input_size(side: int | None) -> str:
    if side is None or side > _SMALL_PX:
        return "  # input_size: 160        # pixels a side; default: as the weights. Less is faster"
    return (
        f"  input_size: {_SMALL_INPUT}           # the pool's pictures are about {side} pixels wide"
    )


def _in_words(cut: Cut) -> str:
    return ", ".join(f"{n} {role}" for role, n in cut.counts().items())


def _quoted(text: str) -> str:
    """A YAML scalar that is this text: JSON's strings are YAML's."""
    return json.dumps(text, ensure_ascii=False)
