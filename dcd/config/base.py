"""The base of every config model, and the type of the places that they name."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class FrozenModel(BaseModel):
    """Immutable, hashable, and strict about unknown keys.

    Inputs stay out of pydantic's own messages: a secret in the wrong file is never echoed.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


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
