"""The exception tree.

Every message names the object, what was expected, what was found and what to do.
Catch `DCDError` at the outermost boundary only.
"""


class DCDError(Exception):
    """Any failure that this package explains itself."""


class ConfigError(DCDError):
    """The configuration cannot be run. `problems` holds one line per fault."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))


class DataError(DCDError):
    """A data set is missing, empty, or not in the form that was announced."""


class LabelError(DataError):
    """Labels are missing, unknown or contradict each other."""


class SchemaMismatch(DataError):
    """A table has not the columns or the types of its contract."""


class CountMismatch(DataError):
    """Counts that must reconcile do not: something was lost or written twice."""


class EmbeddingFailed(DCDError):
    """Shards that could not be embedded; `failures` holds one line a shard."""

    def __init__(self, source: str, failures: list[str], n_shards: int):
        self.failures = failures
        lines = "\n".join(f"  {failure}" for failure in failures)
        super().__init__(
            f"{source}: {len(failures)} of {n_shards} shards could not be embedded; the others "
            f"are done and stay. Mend the cause and run again, only these are redone:\n{lines}"
        )


class EncoderError(DCDError):
    """An encoder cannot be built: unknown model, weights that do not fit, no such device."""


class EncoderMismatch(DCDError):
    """Embeddings of different encoders were about to be compared."""


class LeakError(DCDError):
    """An evaluation image was about to enter training."""


class StoreError(DCDError):
    """The object store refused a request or cannot be reached."""
