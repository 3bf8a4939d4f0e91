"""Write the champion as a folder that the Hugging Face Hub takes as it is, and push it there.

config.json and model.safetensors are timm's; README.md is the run's card under a head that the
Hub reads. Of huggingface_hub only what needs no network is used until something is pushed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCardData, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from dcd.errors import ConfigError, DataError
from dcd.gate.champions import Champion, in_force
from dcd.store import Store, keys
from dcd.store.local_files import published

CARD = "README.md"
_TASK = "image-classification"
_JUDGED_SPLITS = ("test", "debug_heldout")


@dataclass(frozen=True)
class HubEntry:
    """What people say of a model that they publish.

    Attributes:
        repo: its name on the Hub, `owner/name`.
        licence: the Hub's identifier of a licence, such as `apache-2.0`.
        datasets: data sets that it was trained on, by their names on the Hub.
    """

    repo: str
    licence: str | None = None
    datasets: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise ConfigError if the Hub would not take the name."""
        try:
            validate_repo_id(self.repo)
        except HFValidationError as err:
            raise ConfigError([f"{self.repo}: no name of a repository on the Hub: {err}"]) from err
        if "/" not in self.repo:
            raise ConfigError([f"{self.repo}: say whose it is, as in OWNER/{self.repo}"])


def write_hub_folder(store: Store, entry: HubEntry, folder: Path) -> Champion:
    """Write the champion into `folder`: config.json, model.safetensors and, last, README.md.

    Args:
        store: whose champion is written.
        entry: what the card says beside the champion's own figures.
        folder: made if missing; files of these names are replaced.

    Returns:
        The champion that was written.

    Raises:
        ConfigError: the Hub would not take the name.
        DataError: there is no champion.
    """
    entry.check()
    champion = in_force(store, "publish")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    for name in (keys.MODEL_CONFIG, keys.MODEL_WEIGHTS):
        _write(folder / name, store.read_bytes(f"{champion.model}/{name}"))
    card: dict[str, Any] = json.loads(store.read_bytes(champion.card))
    text = store.read_bytes(keys.run_card_text(champion.run_id)).decode()
    _write(folder / CARD, hub_card(entry, champion, card, text).encode())
    return champion


def hub_card(entry: HubEntry, champion: Champion, card: dict[str, Any], text: str) -> str:
    """Put a head of YAML, and how to load the model, above the run's card."""
    head = ModelCardData(
        model_name=entry.repo.partition("/")[2],
        library_name="timm",
        pipeline_tag=_TASK,
        license=entry.licence,
        datasets=list(entry.datasets) or None,
        tags=[_TASK, "timm", "data-centric-debugging"],
        metrics=["accuracy"],
        eval_results=_eval_results(card, champion) or None,
        ignore_metadata_errors=False,
    )
    use = f'```python\nmodel = timm.create_model("hf-hub:{entry.repo}", pretrained=True)\n```'
    return f"---\n{head.to_yaml()}\n---\n\n{use}\n\n{text}"


def push(entry: HubEntry, folder: Path, private: bool) -> str | None:
    """Upload the folder's three files and return the page's address; None where no token is.

    Raises DataError with the Hub's answer if it refuses.
    """
    if get_token() is None:
        return None
    api = HfApi()
    try:
        url = api.create_repo(entry.repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=entry.repo,
            folder_path=folder,
            allow_patterns=[CARD, keys.MODEL_CONFIG, keys.MODEL_WEIGHTS],
            commit_message="Champion of data-centric-debugging",
        )
    except (HfHubHTTPError, OSError) as err:
        raise DataError(
            f"{entry.repo}: the Hub refused ({' '.join(str(err).split())}); the files are in "
            f"{folder}"
        ) from err
    return str(url)


def _eval_results(card: dict[str, Any], champion: Champion) -> list[EvalResult]:
    """Accuracies of the champion's own seed, with their intervals in words."""
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=keys.slug(f"{card['config']['name']}-{row['split']}").lower(),
            dataset_name=f"{card['config']['name']}, {row['split']}",
            metric_type="accuracy",
            metric_value=row["accuracy"],
            metric_name=f"accuracy (95 % interval {row['ci_low']:.3f} to {row['ci_high']:.3f}, "
            f"{row['n']} images)",
        )
        for row in card["metrics"]
        if (row["method"], row["seed"], row["mode"]) == ("selected", champion.seed, None)
        and row["split"] in _JUDGED_SPLITS
    ]


def _write(path: Path, data: bytes) -> None:
    with published(str(path)) as file:
        file.write(data)
