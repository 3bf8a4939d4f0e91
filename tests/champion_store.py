"""A store with one finished run whose model is the champion; its network is small."""

from pathlib import Path

from dcd.config import load_config
from dcd.gate.promotion import promote_by_hand
from dcd.runs.loop import run
from dcd.store import Store
from tests.case import write_case


def champion_store(folder: Path) -> Store:
    """Run the tiny case below `folder` and promote its model by hand."""
    encoder = {"model": "test_efficientnet", "weights": "random", "input_size": 32}
    config = load_config(
        write_case(
            folder,
            seeds=(0,),
            encoder=encoder,
            compare={"baselines": ["none"]},
            gate={"policy": "off"},
        )
    )
    info = run(config)
    store = Store(config.store)
    promote_by_hand(store, info.run_id, None, True)
    return store
