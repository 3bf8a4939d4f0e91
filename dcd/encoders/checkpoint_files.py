"""Read checkpoint files of whatever trainer, and find the weights in them that fit a network.

The one reader behind every door that takes weights. What a file is, is told by its content, not by
its name. Nothing in it is ever executed: safetensors hold tensors only, and what `torch.save` wrote
goes through torch's restricted unpickler, which builds tensors, containers and, in the place of
what trainers note beside the weights, empty objects.
"""

import pickle
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import safetensors.torch
from torch import Tensor

from dcd.encoders.restricted_pickle import unpickled
from dcd.encoders.weights_file import WEIGHTS_IN_A_FOLDER, weights_file
from dcd.errors import EncoderError, StoreError
from dcd.store.filesystems import LFS_MEND, LFS_POINTER, locate

StateDict = dict[str, Tensor]

# Where training code keeps the weights inside a checkpoint, behind averaged ones, which are those
# that were evaluated: `state_dict_ema`, `ema_model`, `swa_state_dict`, `teacher`.
_PREFERRED = ("state_dict", "model")
_AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|averaged|teacher)(?:[._]|$)|_avg$|averagemodel", re.I)
# What torch.compile, FSDP, activation checkpoints and Fabric put before a module that they wrap,
# wherever it stands in the network.
_WRAPPED = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
_MAX_DEPTH = 6
_LEARNT = ("weight", "bias", "running_mean", "running_var")
_EXPECTED = "a file of safetensors or of torch.save (.pt, .pth, .pth.tar, .ckpt, .bin, …)"
_TORCHSCRIPT = "it is TorchScript, which holds code; save the model's state_dict"
_OTHER_CONTENT = (
    (LFS_POINTER, LFS_MEND),
    (b"<", "it is HTML or XML, as of a failed download"),
    (b"\x89HDF", "it is HDF5, as Keras writes"),
    (b"\x1f\x8b", "it is packed with gzip; unpack it"),
)
_WHY_REFUSED = re.compile(r"WeightsUnpickler error: ([^\n]*?)(?:\. Please use|\n|$)")
_OBJECT = re.compile(r"GLOBAL|reduce for|create new object|only build|not allowed in a weights")


@dataclass(frozen=True)
class FittedWeights:
    """Weights under a network's own names, and in words what was taken of a file and what left."""

    state: StateDict
    words: str


@dataclass(frozen=True)
class _Mapping:
    """Tensors by name, and the keys that lead to them from the top of the file."""

    path: tuple[str, ...]
    tensors: StateDict

    @property
    def title(self) -> str:
        return ".".join(self.path) or "the file"

    @property
    def rank(self) -> int:
        if any(_AVERAGED.search(key) for key in self.path):
            return -1
        ranks = [_PREFERRED.index(key) for key in self.path if key in _PREFERRED]
        return min(ranks, default=len(_PREFERRED))


def fitted_weights(uri: str, expected: StateDict) -> FittedWeights:
    """Find the tensors in a file or folder that fit a network best, whatever wraps them.

    Of all mappings of tensors in the file the one that holds most of the expected names, under any
    prefix; of equals the averaged ones (`…_ema`, DINO's teacher) go first. Raises EncoderError if
    the file is missing, broken, without tensors, not finite, or would need code to be run.
    """
    found = _mappings(read_document(uri), uri)
    fitted = [(fit_names(each.tensors, expected), each) for each in found]
    state, taken = max(
        fitted, key=lambda fit: (len(fit[0].keys() & expected.keys()), -fit[1].rank, len(fit[0]))
    )
    refuse_not_finite({n: t for n, t in state.items() if n in expected}, uri)
    n_fit = len(state.keys() & expected.keys())
    prefix = _prefix(taken.tensors, expected)
    left = sorted(name for name in taken.tensors if name.removeprefix(prefix) not in expected)
    words = f"{n_fit} of the network's {len(expected)} tensors taken from {taken.title}"
    if left and prefix:
        words += f", those called {prefix}…"
    if left:
        more = ", …" if len(left) > 3 else ""
        words += f"; {len(left)} others there are left ({', '.join(left[:3])}{more})"
    others = [f"{each.title} ({len(each.tensors)} tensors)" for each in found if each is not taken]
    if others:
        more = ", …" if len(others) > 3 else ""
        words += f"; left unread: {', '.join(others[:3])}{more}"
    return FittedWeights(state, words)


def refuse_not_finite(state: StateDict, uri: str) -> None:
    """Raise EncoderError for weights that are no numbers: every answer would be one, or none.

    What is not learnt may be infinite, as masks are.
    """
    found = [
        name
        for name, tensor in sorted(state.items())
        if tensor.is_floating_point()
        and (tensor.isnan() | (tensor.isinf() & name.endswith(_LEARNT))).any()
    ]
    if found:
        more = ", …" if len(found) > 3 else ""
        raise EncoderError(
            f"{uri}: {len(found)} of its tensors hold NaN or infinite numbers "
            f"({', '.join(found[:3])}{more}), as of a training that diverged; give an earlier "
            "checkpoint"
        )


def read_checkpoint(uri: str) -> StateDict:
    """Read the tensors of a checkpoint where no network says which: of all, the preferred ones.

    Raises EncoderError as `fitted_weights`.
    """
    found = _mappings(read_document(uri), uri)
    return min(found, key=lambda each: (each.rank, -len(each.tensors))).tensors


def read_all_tensors(uri: str) -> StateDict:
    """Read every tensor by name, whatever mapping it is in; of equal names the preferred one.

    Raises EncoderError as `fitted_weights`.
    """
    found = sorted(_mappings(read_document(uri), uri), key=lambda each: -each.rank)
    return {name: tensor for each in found for name, tensor in each.tensors.items()}


def fit_names(state: StateDict, expected: StateDict) -> StateDict:
    """Return the part of `state` that belongs to a network, without the prefix that wraps it there.

    The prefix is the one under which most of the names in `expected` are found: `module.`
    (DistributedDataParallel), `module.model.` (the robustness library), `backbone.`
    (DINO), and whatever else a trainer calls it. Of equals averaged weights win (`ema_net.`,
    `teacher.`), then the shortest. If no name is found at all, `state` comes back as it is.
    """
    prefix = _prefix(state, expected)
    return {name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)}


def read_document(uri: str) -> object:
    """Read what a checkpoint file holds. Raises EncoderError, naming what stands against it."""
    try:
        located = locate(weights_file(uri) or uri)
        if located.fs.isdir(located.path):
            raise EncoderError(
                f"{uri}: is a folder without {' or '.join(WEIGHTS_IN_A_FOLDER)}; weights in "
                "several files are saved as one first"
            )
        data = cast(bytes, located.fs.cat_file(located.path))
    except (OSError, StoreError) as err:
        raise EncoderError(f"{uri}: weights cannot be read ({err}); expected {_EXPECTED}") from err
    try:
        if _is_safetensors(data):
            return safetensors.torch.load(data)
        return unpickled(data)
    except pickle.UnpicklingError as err:
        found = _WHY_REFUSED.search(str(err))
        said = found[1] if found else str(err).strip().partition("\n")[0]
        reason = _looks_like(data) or said or "no pickle of torch"
        if _OBJECT.search(reason):
            raise EncoderError(
                f"{uri}: expected tensors only, found pickled Python objects, which could run code "
                f"and are refused; save the state_dict alone, best as .safetensors ({reason})"
            ) from err
        raise EncoderError(
            f"{uri}: not a readable weights file ({reason}); expected {_EXPECTED}"
        ) from err
    except Exception as err:  # unpicklers raise nearly every type on bytes that are none
        told = _looks_like(data) or f"{type(err).__name__}: {err}".splitlines()[0][:200]
        if "TorchScript" in told:
            told = _TORCHSCRIPT
        raise EncoderError(
            f"{uri}: not a readable weights file ({told}); expected {_EXPECTED}"
        ) from err


def _looks_like(data: bytes) -> str | None:
    """What a file is that holds no weights; None where its beginning does not tell."""
    if not data:
        return "it is empty"
    if b"constants.pkl" in data[: 2**20] and b"code/" in data:
        return _TORCHSCRIPT
    return next((what for start, what in _OTHER_CONTENT if data.startswith(start)), None)


def _is_safetensors(data: bytes) -> bool:
    """A length in eight bytes, and a JSON object of that length."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8


def _mappings(document: object, uri: str) -> list[_Mapping]:
    """Every mapping in a document that holds tensors by name. Raises EncoderError without any."""
    found = list(_tensors_in(document, ()))
    if found:
        return found
    if isinstance(document, Mapping):
        raise EncoderError(
            f"{uri}: expected tensors by name, found the keys {sorted(map(str, document))[:10]}"
        )
    raise EncoderError(f"{uri}: expected tensors by name, found {type(document).__name__}")


def _tensors_in(value: object, path: tuple[str, ...]) -> Iterator[_Mapping]:
    if not isinstance(value, Mapping) or len(path) > _MAX_DEPTH:
        return
    tensors = {_WRAPPED.sub("", str(k)): v for k, v in value.items() if isinstance(v, Tensor)}
    if tensors:
        yield _Mapping(path, tensors)
    for name, inner in value.items():
        yield from _tensors_in(inner, (*path, str(name)))


def _prefix(state: StateDict, expected: StateDict) -> str:
    """The prefix of most expected names, as `fit_names` says; "" where there are none."""
    votes = Counter(prefix for name in state for prefix in _prefixes(name, expected))
    return min(votes, key=lambda p: (-votes[p], not _AVERAGED.search(p), len(p), p), default="")


def _prefixes(name: str, expected: StateDict) -> Iterator[str]:
    """Every prefix ('' or ending in a dot) of `name` that leaves an expected name."""
    start = 0
    while start >= 0:
        if name[start:] in expected:
            yield name[:start]
        dot = name.find(".", start)
        start = dot + 1 if dot >= 0 else -1
