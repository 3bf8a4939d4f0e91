"""Name all that can go wrong: one tree of exceptions.

Every message names the object, what was expected, what was found and what to do.
Catch `DCDError` at the outermost boundary only. All survive pickling, so that they cross processes.
"""


class DCDError(Exception):
    """Any failure that this package explains itself."""


class ConfigError(DCDError):
    """The configuration cannot be run. `problems` holds one line per fault."""

    def __init__(self, problems: list[str]):
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


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
        super().__init__(source, failures, n_shards)
        self.source, self.failures, self.n_shards = source, failures, n_shards

    def __str__(self) -> str:
        lines = "\n".join(f"  {failure}" for failure in self.failures)
        return (
            f"{self.source}: {len(self.failures)} of {self.n_shards} shards could not be embedded; "
            "the others are done and stay. Mend the cause and run again, only these are redone:\n"
            f"{lines}"
        )


class IndexingFailed(DCDError):
    """Pieces of work on an index that no worker ended; `failures` holds one line a piece."""

    def __init__(self, failures: list[str], n_pieces: int):
        super().__init__(failures, n_pieces)
        self.failures, self.n_pieces = failures, n_pieces

    def __str__(self) -> str:
        lines = "\n".join(f"  {failure}" for failure in self.failures)
        return (
            f"index: {len(self.failures)} of {self.n_pieces} pieces of work failed; the others are "
            "done and stay. Mend the cause and run again with as many workers, only these are "
            f"redone:\n{lines}"
        )


class EncoderError(DCDError):
    """An encoder cannot be built: unknown model, weights that do not fit, no such device."""


class EncoderMismatch(DCDError):
    """Embeddings of different encoders were about to be compared."""


class LeakError(DCDError):
    """An evaluation image was about to enter training."""


class ChampionChanged(DCDError):
    """Another promotion or a rollback came first."""


class GateRefused(DCDError):
    """A model was to be promoted that the gate did not let pass."""


class StoreError(DCDError):
    """The object store refused a request or cannot be reached."""


class ObjectFault(StoreError):
    """One object is missing or damaged; `uri` names it where it is an object of a store."""

    def __init__(self, message: str, uri: str | None = None):
        super().__init__(message, uri)
        self.message, self.uri = message, uri

    def __str__(self) -> str:
        return self.message


class ObjectNotFound(ObjectFault):
    """There is no object under this key."""


class ObjectUnreadable(ObjectFault):
    """The object is there, but it is not what was written, or not in the form it should have."""


class StoreRefused(StoreError):
    """The credentials do not give `right`; None where they are missing or wrong themselves."""

    def __init__(self, message: str, right: str | None = None):
        super().__init__(message, right)
        self.message, self.right = message, right

    def __str__(self) -> str:
        return self.message


class StoreUnavailable(StoreError):
    """The object store cannot be reached or is busy: the same request may succeed later."""
