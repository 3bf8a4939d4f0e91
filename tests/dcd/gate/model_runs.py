"""Finished runs in a store, small enough to be made by the hundred, and a loop of promotions.

As a program (`python -m tests.dcd.gate.model_runs URL`) it promotes one new run after another until
it is killed; it prints a line once the first one stands.
"""

import json
import sys
from itertools import count

import numpy as np
from safetensors.numpy import save

from dcd.gate.champions import Champion, current, promote
from dcd.store import Store, keys
from dcd.store.checksums import sealed

CLASSES = ("cat", "dog")
_WEIGHTS_BYTES = 300_000


def write_run(store: Store, run_id: str, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> str:
    """A run's model, then its card, as a finished run has them. Returns the run's id."""
    prefix = keys.run(run_id, f"model/seed{seed}")
    store.write_bytes(f"{prefix}/model.safetensors", weights(run_id))
    config = json.dumps({"label_names": classes}).encode()
    store.write_bytes(f"{prefix}/config.json", config)
    store.write_bytes(keys.run(run_id, "card.json"), json.dumps({"run_id": run_id}).encode())
    return run_id


def weights(run_id: str) -> bytes:
    """A model's file that only this run has, all of its bytes needed, as the store holds it."""
    numbers = np.frombuffer((run_id.encode() * _WEIGHTS_BYTES)[:_WEIGHTS_BYTES], np.uint8)
    return sealed(keys.MODEL_WEIGHTS, save({"weights": numbers}))


def promoted(store: Store, run_id: str, seed: int = 0) -> Champion:
    """Promote whatever the champion is."""
    now = current(store)
    return promote(store, run_id, seed, ("better",), None if now is None else now.id)


def whole_champion(store: Store) -> Champion | None:
    """The champion, with all that it points at read; fails if anything of it is not whole."""
    now = current(store)
    if now is not None:
        assert store.read_bytes(f"{now.model}/model.safetensors") == weights(now.run_id)
        config = json.loads(store.read_bytes(f"{now.model}/config.json"))
        assert tuple(config["label_names"]) == now.classes
        assert json.loads(store.read_bytes(now.card))["run_id"] == now.run_id
    return now


if __name__ == "__main__":
    place = Store(sys.argv[1])
    start = len(place.keys_under(keys.CHAMPION_CHANGES))
    for number in count(start):
        promoted(place, write_run(place, f"run-{number}"))
        if number == start:
            print("promoting", flush=True)
