"""The base of every config model, and the type of the places that they name."""

from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

MAX_NUMBER = 2**53  # what every library that a number is handed to can hold


class FrozenModel(BaseModel):
    """Immutable, hashable, and strict about unknown keys.

    Inputs stay out of pydantic's own messages: a secret in the wrong file is never echoed.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, given: Any) -> Any:
        """Make text of what would be taken for 1 and 0, as `k: yes`, and of boundless numbers.

        So they are faults at their own place.
        """
        if not isinstance(given, dict):
            return given
        fields = cls.model_fields
        return {
            name: _as_fault(value, fields[name].annotation) if name in fields else value
            for name, value in given.items()
        }


def _as_fault(value: Any, annotation: Any) -> Any:
    """A value, or text where it is no number that the field may hold."""
    if isinstance(value, list | tuple):
        return type(value)(_as_fault(each, annotation) for each in value)
    kinds = _kinds(annotation)
    if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
        return str(value).lower()
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        return "more than 2^53"
    return value


@lru_cache(maxsize=1024)
def _kinds(annotation: Any) -> frozenset[Any]:
    """The types that a field may hold, itself or in a list."""
    inner = () if get_origin(annotation) is Literal else get_args(annotation)
    if not inner:
        return frozenset([annotation] if isinstance(annotation, type) else [])
    return frozenset(kind for each in inner for kind in _kinds(each))


# Of a run, a comparison or a pool: a folder of the store, a part of a URL and of a file's name.
NAME_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$"


def _without_credentials(uri: str) -> str:
    _, scheme, rest = uri.partition("://")
    if scheme and "@" in rest.split("/", 1)[0]:
        raise ValueError(
            "credentials do not belong in a URI; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return uri


# A local path, s3://… or hf://datasets/…; relative paths count from the current directory.
Uri = Annotated[str, Field(min_length=1), AfterValidator(_without_credentials)]
