"""Say what the errors of storage mean: whether they may go away by themselves, in plain words."""

import errno
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, cast

from dcd.errors import ObjectNotFound, ObjectUnreadable, StoreError, StoreRefused, StoreUnavailable
from dcd.store.s3_settings import S3Settings

Right = Literal["list", "read", "write", "delete"]
T = TypeVar("T")
_READ_TRIES = 3
_BUSY_STATUS = {408, 429, 500, 502, 503, 504}
_BUSY_CODES = {
    *("RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "OperationAborted"),
    *("NETWORK_CONNECTION", "SLOW_DOWN", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE"),
    *("REQUEST_TIMEOUT", "THROTTLING"),
}
_BUSY_ERRNO = {
    *(errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE, errno.ENETDOWN),
    *(errno.ENETUNREACH, errno.EHOSTUNREACH),
}
_WRONG_CREDENTIALS = {
    *("SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "ExpiredToken"),
    *("TokenRefreshRequired", "AuthorizationHeaderMalformed", "RequestTimeTooSkewed"),
    *("SIGNATURE_DOES_NOT_MATCH", "INVALID_ACCESS_KEY_ID", "EXPIRED_TOKEN"),
}
_DENIED = {"AccessDenied", "403", "ACCESS_DENIED"}
_NO_BUCKET = {"NoSuchBucket", "NO_SUCH_BUCKET"}
# What botocore and Arrow call a 400 without a body, as each answer to a HEAD is.
_UNTOLD = {"400", "UNKNOWN"}
_UNREAD = "Failed to flush response stream"
_ARROW_S3 = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?")


@contextmanager
def explained(uri: str, right: Right) -> Iterator[None]:
    """Turn what fsspec, botocore and Arrow raise while storage is used into a StoreError.

    It names `uri`, the right that was used, what is wrong and the mend: StoreUnavailable for what
    may go away by itself, StoreRefused for missing rights and wrong credentials.
    """
    try:
        yield
    except Exception as err:
        if not _is_of_storage(err):
            raise
        raise _explanation(uri, right, err) from err


def _is_of_storage(err: Exception) -> bool:
    return (
        isinstance(err, OSError)
        or _is_arrow_invalid(err)
        or _is_boto(err, "BotoCoreError", "ClientError")
        or _is_aiohttp(err)
        or _is_httpx(err, "HTTPError")
    )


def _is_arrow_invalid(err: BaseException) -> bool:
    return isinstance(err, getattr(sys.modules.get("pyarrow"), "ArrowInvalid", ()))


def _is_boto(err: BaseException, *names: str) -> bool:
    """Tell whether it is one of these of botocore's; where nothing loaded that, it raised none."""
    boto = sys.modules.get("botocore.exceptions")
    return boto is not None and isinstance(err, tuple(getattr(boto, name) for name in names))


def _is_aiohttp(err: BaseException) -> bool:
    aiohttp = sys.modules.get("aiohttp")
    return aiohttp is not None and isinstance(err, aiohttp.ClientError)


def _is_httpx(err: BaseException, name: str) -> bool:
    """Tell whether it is this error of httpx's or httpx2's, by which huggingface_hub speaks."""
    loaded = [sys.modules[module] for module in ("httpx", "httpx2") if module in sys.modules]
    return isinstance(err, tuple(getattr(module, name) for module in loaded))


def is_unread(error: BaseException | None) -> bool:
    """Tell whether Arrow could not take an answer, so that nobody knows what the server said.

    It asks a server again that answers 500 or 503, unless the answer is longer than the piece of
    an object that it asked for (pyarrow 26.0.1, `findings/pyarrow_short_read_not_retried.sh`).
    """
    return any(isinstance(each, OSError) and _UNREAD in str(each) for each in _chain(error))


def again_if_unread(read: Callable[[], T]) -> T:
    """Return what a read of the store gives; after an answer that Arrow could not take, again."""
    for _ in range(_READ_TRIES - 1):
        try:
            return read()
        except StoreUnavailable as err:
            if not is_unread(err):
                raise
    return read()


def is_transient(error: BaseException | None) -> bool:
    """Tell whether an error, or one it was raised from, may go away by itself: network and 5xx."""
    chain = list(_chain(error))
    for each in chain:  # a server's answer says more than the exception that it became
        code, status = _answer(each)
        if code or status:
            return code in _BUSY_CODES or status in _BUSY_STATUS
    return any(_is_interruption(each) for each in chain)


def _explanation(uri: str, right: Right, err: Exception) -> StoreError:
    if uri.startswith("hf://"):
        return _of_the_hub(uri, err)
    code, status = next((told for each in _chain(err) if (told := _answer(each))[0]), ("", 0))
    if _is_boto(err, "NoCredentialsError", "PartialCredentialsError"):
        return StoreRefused(
            f"{uri}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if code in _WRONG_CREDENTIALS:
        return StoreRefused(
            f"{uri}: the credentials are wrong or expired ({code}); check AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)"
        )
    if code in _UNTOLD and status == 400:
        return StoreRefused(
            f"{uri}: refused without a reason (HTTP 400), most often since the credentials are "
            "expired or for another region; check AWS_SESSION_TOKEN and AWS_DEFAULT_REGION"
        )
    if (code in _DENIED or isinstance(err, PermissionError)) and _is_unsigned(uri):
        return StoreRefused(
            f"{uri}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
            "or AWS_PROFILE (requests were not signed, and this is no public bucket)"
        )
    if code in _DENIED or isinstance(err, PermissionError):
        return StoreRefused(
            f"{uri}: refused; the right to {right} is missing, or the credentials are wrong", right
        )
    if code in _NO_BUCKET:
        return StoreError(f"{uri}: there is no such bucket; create it or mend the URL")
    if isinstance(err, FileNotFoundError):
        return ObjectNotFound(f"{uri}: no such object", uri)
    if is_transient(err):
        return StoreUnavailable(
            f"{uri}: the store cannot be reached or is busy ({brief(err)}); try again, or check "
            "AWS_ENDPOINT_URL_S3"
        )
    if full := no_room(err):
        return StoreError(f"{uri}: cannot {right} it: {full}")
    if isinstance(err, FileExistsError | NotADirectoryError):
        return StoreError(f"{uri}: a file stands where a folder is needed; remove or rename it")
    if _is_arrow_invalid(err):
        return ObjectUnreadable(f"{uri}: is no readable Parquet object ({brief(err)})", uri)
    return StoreError(f"{uri}: cannot {right} it: {brief(err)}")


def _of_the_hub(uri: str, err: Exception) -> StoreError:
    status = next((found for each in _chain(err) if (found := _answer(each)[1])), 0)
    if status in (401, 403):
        return StoreRefused(
            f"{uri}: there is no such data set on the Hub, or it is private or gated; check its "
            "name, or set HF_TOKEN to a token that may read it"
        )
    if isinstance(err, FileNotFoundError) or status == 404:
        return ObjectNotFound(
            f"{uri}: the Hub has no such data set, revision or file; a private one needs HF_TOKEN",
            uri,
        )
    if is_transient(err):
        return StoreUnavailable(
            f"{uri}: the Hub cannot be reached or is busy ({brief(err)}); try again, or unset "
            "HF_HUB_OFFLINE where that is set"
        )
    if _is_arrow_invalid(err):
        return ObjectUnreadable(f"{uri}: is no readable Parquet object ({brief(err)})", uri)
    return StoreError(f"{uri}: cannot be read from the Hub: {brief(err)}")


def no_room(err: BaseException) -> str | None:
    """Say that a disk takes no more and what to do; None for other errors."""
    number = err.errno if isinstance(err, OSError) else None
    again = "and run the same command again: what is done stays"
    match number:
        case errno.ENOSPC:
            return f"no space is left on the disk, or no file may be added; make room {again}"
        case errno.EDQUOT:
            return f"the quota of this user is used up; raise it or make room {again}"
        case errno.EFBIG:
            return (
                f"the file is larger than a limit (ulimit -f) or the disk allows; raise it {again}"
            )
        case errno.EROFS:
            return f"the disk is read-only; mount it for writing, or name another, {again}"
    return None


def _is_unsigned(uri: str) -> bool:
    try:
        return uri.startswith("s3://") and not S3Settings.resolved().signed
    except StoreError:
        return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _answer(error: BaseException) -> tuple[str, int]:
    """The S3 error code and HTTP status that a server gave; "" and 0 where it gave none."""
    if _is_boto(error, "ClientError"):
        response = cast(Any, error).response
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return str(response.get("Error", {}).get("Code", "")), status
    if _is_httpx(error, "HTTPError"):
        response = getattr(error, "response", None)
        return "", 0 if response is None else response.status_code
    if isinstance(error, OSError) and (found := _ARROW_S3.search(str(error))):
        return found[1], int(found[2] or 0)
    return "", 0


def _is_interruption(error: BaseException) -> bool:
    if isinstance(error, StoreUnavailable | ConnectionError | TimeoutError):
        return True
    if _is_boto(error, "SSLError"):
        return False
    if _is_boto(error, "ConnectionError", "HTTPClientError", "IncompleteReadError"):
        return True
    if _is_httpx(error, "TransportError"):
        return True
    if _is_aiohttp(error):  # a body that was cut off
        return True
    return isinstance(error, OSError) and error.errno in _BUSY_ERRNO


def is_answer(err: BaseException) -> bool:
    """Tell whether a server or the operating system said this, not the reader of a format."""
    return bool(_answer(err)[0]) or (isinstance(err, OSError) and err.errno is not None)


def brief(err: BaseException) -> str:
    """Return what an error says, on one line of at most 200 characters."""
    text = " ".join(str(err).split()) or type(err).__name__
    return text if len(text) <= 200 else f"{text[:197]}…"
