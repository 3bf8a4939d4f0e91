"""Open the champion with what stands beside it: the run that made it, and its config."""

from dataclasses import dataclass
from itertools import islice

import numpy as np

from dcd.config import DataConfig, RunConfig
from dcd.errors import DataError
from dcd.gate.champions import Champion, in_force
from dcd.images.preprocess import Preprocess, to_input
from dcd.runs.finished import run_config
from dcd.sources.shards import decoded_images, decoded_of_shard, list_shards
from dcd.store import Store
from dcd.training.saved_models import SavedModel, read_model


@dataclass(frozen=True)
class TrustedModel:
    """The champion, its network on the CPU, and the config of the run that made it."""

    champion: Champion
    model: SavedModel
    config: RunConfig

    @property
    def test_images(self) -> DataConfig:
        """The images of the run's test set."""
        return self.config.test.at_seed(self.champion.seed)

    @property
    def train_images(self) -> DataConfig:
        """The images that the run's train set is in."""
        return self.config.train.at_seed(self.champion.seed)


def open_champion(store: Store) -> TrustedModel:
    """Read the champion whole. Raises DataError if there is none or a part of it is gone."""
    champion = in_force(store, "export")
    config = run_config(store, champion.run_id)
    return TrustedModel(champion, read_model(store, champion.model), config)


def read_inputs(data: DataConfig, preprocess: Preprocess, at_most: int) -> np.ndarray:
    """Read the first images of a data set as the network takes them: (N, S, S, 3) uint8.

    What cannot be decoded is passed over. Raises DataError if nothing is left.
    """
    pixels = islice(decoded_images(data), at_most)
    found = [to_input(one, preprocess) for one in pixels]
    if not found:
        raise DataError(f"{data.images}: no image can be decoded; name others with --images")
    return np.stack(found)


def read_spread(data: DataConfig, preprocess: Preprocess, at_most: int) -> np.ndarray:
    """Read images as `read_inputs`, as many of each shard: class folders are a shard each."""
    shards = list_shards(data)
    shards = shards[:: -(-len(shards) // at_most)]
    of_each = -(-at_most // len(shards))
    found = [
        to_input(pixels, preprocess)
        for shard in shards
        for pixels in islice(decoded_of_shard(shard, data), of_each)
    ]
    if not found:
        raise DataError(f"{data.images}: no image can be decoded; export without --int8")
    return np.stack(found[:at_most])
