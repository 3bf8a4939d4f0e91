"""Open the user's own model to start from: a folder that timm saved, or weights and classes.

Nothing is unpickled: weights are safetensors, or go through torch's restricted unpickler.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from dcd.config import EncoderConfig, StartConfig
from dcd.encoders.weights_file import weights_file
from dcd.errors import EncoderError, LabelError, StoreError
from dcd.scratch import scratch_folder
from dcd.store.filesystems import locate
from dcd.store.keys import MODEL_CONFIG, MODEL_WEIGHTS
from dcd.tables.labels import label_text

if TYPE_CHECKING:
    from torch import nn

    from dcd.training.saved_models import SavedModel


@dataclass(frozen=True)
class StartModel:
    """A model to start from, the timm architecture that it has, and what was read of its file."""

    model: "SavedModel"
    architecture: str
    words: str = ""


def load_start(config: StartConfig) -> StartModel:
    """Read the model. Raises EncoderError or LabelError, naming the place and what is missing.

    A folder that timm saved says what it is; any other stands for the weights in it, whose
    architecture and classes the config names.
    """
    found = _from_folder(config.model) if _says_what_it_is(config) else _from_file(config)
    if config.input_size is None:
        return found
    preprocess = replace(found.model.preprocess, input_size=config.input_size)
    return replace(found, model=replace(found.model, preprocess=preprocess))


def start_digest(config: StartConfig | None) -> str | None:
    """Digest the model's bytes, so that another model in the same place is another one."""
    if config is None:
        return None
    uri = config.model.rstrip("/")
    files = [f"{uri}/{MODEL_CONFIG}", f"{uri}/{MODEL_WEIGHTS}"]
    if not _says_what_it_is(config):
        files = [weights_file(uri) or uri]
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(_read(file))
    return digest.hexdigest()[:12]


def _says_what_it_is(config: StartConfig) -> bool:
    """Whether a folder is opened as timm saved it. Raises EncoderError if nothing lies there."""
    return _is_folder(config.model) and (config.architecture is None or config.classes is None)


def _is_folder(uri: str) -> bool:
    """Whether a folder lies there, whatever its name. Raises EncoderError if nothing does."""
    try:
        located = locate(uri.rstrip("/"))
        if located.fs.isfile(located.path):
            return False
        if located.fs.isdir(located.path):
            return True
    except (OSError, StoreError) as err:
        raise EncoderError(f"training.start: {uri} cannot be read ({err})") from err
    raise EncoderError(
        f"training.start: {uri}: no such file or folder; give a folder with {MODEL_CONFIG} and "
        f"{MODEL_WEIGHTS} as timm saves them, or a weights file"
    )


def _from_folder(uri: str) -> StartModel:
    from dcd.training.saved_models import load_model

    with scratch_folder("start") as folder:
        for name in (MODEL_CONFIG, MODEL_WEIGHTS):
            (folder / name).write_bytes(_read(f"{uri.rstrip('/')}/{name}"))
        try:
            model = load_model(folder)
        except (EncoderError, LabelError) as err:
            raise type(err)(str(err).replace(str(folder), uri)) from err
    return StartModel(model, cast(Any, model.network).pretrained_cfg["architecture"])


def _from_file(config: StartConfig) -> StartModel:
    import timm

    from dcd.encoders import weights
    from dcd.encoders.checkpoint_files import fitted_weights
    from dcd.encoders.network import preprocess_of
    from dcd.training.saved_models import SavedModel

    if config.architecture is None or config.classes is None:
        raise EncoderError(
            f"training.start: {config.model} is a bare weights file; set architecture beside it to "
            "its timm name, and classes to its classes in the order of its outputs"
        )
    classes = _cleaned(config.classes)
    preprocess = preprocess_of(EncoderConfig(model=config.architecture))
    network: nn.Module = timm.create_model(config.architecture, num_classes=len(classes))
    expected = network.state_dict()
    found = fitted_weights(config.model, expected)
    state = found.state
    try:
        network.load_state_dict(state)
    except RuntimeError as err:
        raise EncoderError(
            f"{config.model}: does not fit {config.architecture} with {len(classes)} "
            f"classes: {weights.differences(state, expected)}; "
            "name the architecture and all its classes"
        ) from err
    cast(Any, network).pretrained_cfg = {
        **cast(Any, network).pretrained_cfg,
        "architecture": config.architecture,
    }
    model = SavedModel(network.eval(), classes, preprocess)
    return StartModel(model, config.architecture, found.words)


def _cleaned(classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes as labels are cleaned. Raises LabelError for a blank or repeated one."""
    names = [label_text(name) for name in classes]
    found = tuple(name for name in names if name is not None)
    twice = sorted(name for name, n in Counter(found).items() if n > 1)
    if twice or len(found) < len(names):
        what = f"{twice[0]!r} more than once" if twice else "a blank name"
        raise LabelError(f"training.start.classes: {what}; each output of the model needs its own")
    return found


def _read(uri: str) -> bytes:
    try:
        located = locate(uri)
        return cast(bytes, located.fs.cat_file(located.path))
    except (OSError, StoreError) as err:
        raise EncoderError(
            f"training.start: {uri} cannot be read ({err}); give a folder with {MODEL_CONFIG} and "
            f"{MODEL_WEIGHTS} as timm saves them, or a weights file"
        ) from err
