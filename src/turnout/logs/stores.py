"""Opens object stores by their address.

Credentials come from where each store's own tools look for them. No name and no message shows a key
or a signature.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar
from urllib.parse import parse_qs

import pyarrow as pa
from pyarrow import fs

from turnout.errors import RecordError

SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs")
FAILURES = (OSError, pa.ArrowException)
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or who is logged in with `gcloud`",
    "abfs": "AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or who is logged in with `az`",
}
_ALIASES = {"gcs": "gs", "abfss": "abfs"}
# Arrow tries Google for a quarter of an hour, and a silent Azure for longer.
_SECONDS_TO_TRY = 30
_SECONDS_TO_ANSWER = 60
# What in an Azure address says how to prove who asks; `sig` is a signature's own.
_AZURE_PROOFS = {"credential_kind", "client_id", "sig"}
_URI = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
# A key may hold a slash. Hadoop's addresses hold none, but a port.
_KEY = re.compile(r"^((?!hdfs:)\w+://[^/@:]*):[^@]*@", re.IGNORECASE)
_USER = re.compile(r"//[^/@]*@")
_AZURE_KEY = re.compile(r"abfss?://[^/@]*:(?!\d+/)[^@]*@", re.IGNORECASE)
_QUERY = re.compile(r"(\w://[^\s'\"?]*)\?[^\s'\"]*")
_CPP_TYPE = re.compile(r"\b(?:St|N)\d\w+: ")
_Answer = TypeVar("_Answer")


def scheme_of(source: str) -> str | None:
    """The kind of store that an address names, in one spelling; None for a path."""
    match = _URI.match(source)
    scheme = match and match[1].lower()
    return _ALIASES.get(scheme, scheme) if scheme else None


def shown(source: str) -> str:
    """An address without what is secret in it: for names and messages.

    What stands before the `@` of an Azure address is the account or the container, and stays.
    """
    address = _KEY.sub(r"\1@", source.partition("?")[0])
    return address if scheme_of(address) == "abfs" else _USER.sub("//", address)


def reason(error: BaseException, address: str = "") -> str:
    """The first line of an error, without what is secret in an address, or in any that it names."""
    text = str(error).replace(address, shown(address)) if address else str(error)
    line = (text.splitlines() or [type(error).__name__])[0]
    return _CPP_TYPE.sub("", _QUERY.sub(r"\1", line)).partition(" error_info=")[0]


def credentials(source: str) -> str:
    """Where the credentials of a source's store come from: for messages."""
    known = _CREDENTIALS.get(scheme_of(source) or "")
    return f" The store's credentials are those of {known}." if known else ""


def opened(address: str, query: str) -> tuple[fs.FileSystem, str]:
    """The file system that an address names, and the path in it.

    Args:
        address: Without a query.
        query: What followed its `?`.

    Raises:
        RecordError: If it is of an unknown kind, or written in a way that Arrow does not read.
    """
    scheme = _URI.match(address)
    if scheme is None or scheme[1].lower() not in SCHEMES:
        raise RecordError(
            f"{shown(address)}: an unknown kind of place; expected a path or one of "
            f"{', '.join(f'{name}://' for name in SCHEMES)}. Download it first."
        )
    if _AZURE_KEY.match(address):
        raise RecordError(
            f"{shown(address)}: a key in the address, which is not read there; expected it in "
            "AZURE_STORAGE_KEY. Set that, and leave it out of the address."
        )
    key, query = _with_defaults(address, query)
    whole = f"{address}?{query}" if query else address
    try:
        filesystem, path = fs.FileSystem.from_uri(whole)
        return (_with_key(filesystem, key) if key else filesystem), path
    except (*FAILURES, ValueError) as error:
        raise RecordError(
            f"{shown(address)}: not a place that can be reached ({reason(error, whole)}); expected "
            "for example s3://BUCKET/FOLDER/*.jsonl. Check how it is written."
        ) from error


def first_answer(ask: Callable[[], _Answer]) -> _Answer:
    """What a store answers to a first, small question.

    Raises:
        OSError: If it does not answer in time.
    """
    answer: Future[_Answer] = Future()

    def asked() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # raised again below, where it was asked
            answer.set_exception(error)

    # Nothing stops Arrow's client, so the thread is left to itself.
    threading.Thread(target=asked, daemon=True).start()
    try:
        return answer.result(timeout=_SECONDS_TO_ANSWER)
    except TimeoutError:
        if answer.done():
            raise
        raise TimeoutError(f"no answer for {_SECONDS_TO_ANSWER} s") from None


def _with_defaults(address: str, query: str) -> tuple[str | None, str]:
    """The key for an Azure account, and an address's query, where it leaves them open."""
    scheme, given = scheme_of(address), parse_qs(query).keys()
    key, more = None, ""
    if scheme == "gs" and "retry_limit_seconds" not in given:
        more = f"retry_limit_seconds={_SECONDS_TO_TRY}"
    elif scheme == "abfs" and not _AZURE_PROOFS & given:
        key = os.environ.get("AZURE_STORAGE_KEY")
        more = "" if key else os.environ.get("AZURE_STORAGE_SAS_TOKEN", "").removeprefix("?")
    return key, "&".join(filter(None, (query, more)))


def _with_key(filesystem: fs.FileSystem, key: str) -> fs.FileSystem:
    """The same Azure account with a key, which no address can bring.

    What Arrow read in the address it says only to be pickled.
    """
    again, (options,) = filesystem.__reduce__()
    remade: fs.FileSystem = again({**options, "account_key": key})
    return remade
