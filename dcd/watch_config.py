"""The configuration of `watch-failures`."""

from pydantic import Field

from dcd.config import Frozen, RunConfig


class WatchConfig(Frozen):
    """One look into the inbox of a store: what is new is registered and announced."""

    run: RunConfig = Field(
        description="The `debug-model` run that the failures are for: it names the store, and the "
        "data sets that a failure must not be in."
    )
    remind_after_s: float = Field(
        default=600,
        ge=0,
        description="Failures that no finished run has covered are announced again after this "
        "long, then after twice as long, and so on up to a day.",
    )
