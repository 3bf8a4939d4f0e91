"""The base of every config model."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, hashable, and strict about unknown keys.

    Inputs stay out of pydantic's own messages: a secret in the wrong file is never echoed.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )
