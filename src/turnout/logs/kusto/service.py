"""Asks a Kusto service one query: all rows of the result, or an error.

Throttling, broken replies and lost connections are tried again with growing pauses; an expired
token is renewed once a query. The client does not see an error in a reply's last frame, so the rows
of every reply are counted.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa
from azure.identity import DefaultAzureCredential
from azure.kusto.data import ClientRequestProperties, KustoClient, KustoConnectionStringBuilder
from azure.kusto.data import exceptions as kusto
from tenacity import (
    RetryCallState,
    Retrying,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from turnout.errors import RecordError, SettingsError, UpstreamError
from turnout.logs.columns import clean_text
from turnout.schema import TIMESTAMP

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.kusto.data.response import KustoResponseDataSet

SignIn = Callable[[], "TokenCredential"]
"""Gives a credential; called again when the service finds its token expired."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SERVER_TIMEOUT = dt.timedelta(minutes=20)
_ARROW_TYPES = {
    "string": pa.string(),
    "int": pa.int32(),
    "long": pa.int64(),
    "datetime": TIMESTAMP,
}


class ReplyTooLargeError(Exception):
    """The result exceeds what the service puts into one reply, or the memory it gives a query."""


class _IncompleteReplyError(Exception):
    """Another number of rows than was counted."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a query is tried, and how long is waited between tries.

    Attributes:
        tries: In all.
        first_pause_s: Doubled after every try; a random part of it is added.
        longest_pause_s: Where doubling ends. A pause that the service asks for is kept instead, up
            to this.
    """

    tries: int = 8
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is: `kusto://CLUSTER/DATABASE`; a cluster may have a path of its own."""

    cluster: str
    database: str

    @classmethod
    def of(cls, text: str) -> Address:
        """Read an address.

        Raises:
            SettingsError: If it names no cluster or no database.
        """
        parts = urlsplit(text)
        path, _, database = parts.path.rstrip("/").rpartition("/")
        if parts.scheme != "kusto" or not parts.hostname or not database:
            raise SettingsError(
                f"{text}: expected kusto://CLUSTER/DATABASE, such as "
                "kusto://help.kusto.windows.net/Samples."
            )
        scheme = "http" if parts.hostname in _LOOPBACK else "https"
        return cls(f"{scheme}://{parts.netloc}{path}", database)

    def __str__(self) -> str:
        return f"kusto://{self.cluster.partition('://')[2]}/{self.database}"


class Service:
    """A database that answers queries.

    Args:
        address: Where it is.
        sign_in: How to sign in; by default Azure's own chain (environment, managed identity, az
            login, …), and not at all on this machine's loopback.
        patience: How long to keep trying.
        on_wait: Told why a query is tried again.
    """

    def __init__(
        self,
        address: Address,
        *,
        sign_in: SignIn | None = None,
        patience: Patience | None = None,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._address = address
        self._sign_in = sign_in or (None if address.cluster.startswith("http:") else _signed_in)
        self._patience = patience or Patience()
        self._on_wait = on_wait
        self._client = self._connected()
        self._properties = ClientRequestProperties()
        self._properties.set_option(
            ClientRequestProperties.request_timeout_option_name, _SERVER_TIMEOUT
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def rows(
        self,
        query: str,
        expected: int,
        count: Callable[[pa.Table], int] = lambda table: int(table.num_rows),
    ) -> pa.Table:
        """The result of a query: columns of text, whole numbers and times.

        Args:
            query: KQL.
            expected: What `count` must give.
            count: Counts the result; its rows, if not said otherwise.

        Raises:
            ReplyTooLargeError: If it does not fit into one reply.
            RecordError: If the service refuses the query.
            UpstreamError: If the service does not answer, or not whole, however often it is asked.
        """

        def whole() -> pa.Table:
            table = _table(self._ask(query))
            if count(table) != expected:
                raise _IncompleteReplyError(f"{count(table)} rows of {expected} came")
            return table

        try:
            return self._tries()(whole)
        except (kusto.KustoError, _IncompleteReplyError) as error:
            raise self._ours(error) from error

    def _tries(self) -> Retrying:
        patience = self._patience
        grown = wait_exponential(patience.first_pause_s, patience.longest_pause_s)
        spread = wait_random(0, patience.first_pause_s)

        def pause_s(state: RetryCallState) -> float:
            asked = _pause_asked_for(_failure(state))
            return (
                grown(state) + spread(state)
                if asked is None
                else min(asked, patience.longest_pause_s)
            )

        return Retrying(
            stop=stop_after_attempt(patience.tries),
            wait=pause_s,
            retry=lambda state: _passes(_failure(state)),
            before_sleep=lambda state: self._on_wait(_reason(_failure(state))),
            reraise=True,
        )

    def _ask(self, query: str) -> KustoResponseDataSet:
        try:
            return self._answer(query)
        except kusto.KustoServiceError as error:
            if _status(error) != 401 or self._sign_in is None:
                raise
            self._client.close()
            self._client = self._connected()
            return self._answer(query)

    def _answer(self, query: str) -> KustoResponseDataSet:
        try:
            return self._client.execute_query(self._address.database, query, self._properties)
        except (LookupError, TypeError) as error:
            # The client takes every whole document for frames; an error may come as one too.
            raise _IncompleteReplyError("a reply that is no result came") from error

    def _connected(self) -> KustoClient:
        build = KustoConnectionStringBuilder
        if self._sign_in is None:
            return KustoClient(build.with_no_authentication(self._address.cluster))
        return KustoClient(
            build.with_azure_token_credential(self._address.cluster, self._sign_in())
        )

    def _ours(self, error: Exception) -> Exception:
        if _too_large(error):
            return ReplyTooLargeError(_reason(error))
        where, reason = self._address, _reason(error)
        if isinstance(error, kusto.KustoAuthenticationError) or _status(error) == 401:
            return UpstreamError(
                f"{where}: signing in failed ({reason}); expected a valid token. Run `az login` "
                "or set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET; then run it "
                "again: what was fetched is kept."
            )
        if _status(error) == 403:
            return UpstreamError(
                f"{where}: access was refused ({reason}); expected the right to read the database. "
                "Ask its owner for the Viewer role."
            )
        if _status(error) in (400, 404):
            return RecordError(
                f"{where}: the query was refused ({reason}); expected a table and columns as the "
                "query names them. Name yours with --table and --map."
            )
        if isinstance(error, _IncompleteReplyError):
            return UpstreamError(
                f"{where}: {reason}; expected as many as were counted. If rows still arrive in the "
                "window, choose an earlier --until; else run it again: what was fetched is kept."
            )
        return UpstreamError(
            f"{where}: no whole answer ({reason}); expected one within {self._patience.tries} "
            "tries. Run it again later: what was fetched is kept."
        )


def _signed_in() -> TokenCredential:
    # A browser is opened only where somebody may be looking.
    return DefaultAzureCredential(exclude_interactive_browser_credential=not sys.stderr.isatty())


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _passes(error: BaseException | None) -> bool:
    """Whether the same query may be answered when it is asked again."""
    if isinstance(error, kusto.KustoThrottlingError | kusto.KustoNetworkError):
        return True
    if isinstance(error, kusto.KustoMultiApiError):
        return not _too_large(error) and not any(
            cause.permanent for cause in error.get_api_errors()
        )
    # A reply that broke off has status 200 and is no JSON.
    if isinstance(error, kusto.KustoServiceError):
        status = _status(error)
        return status is not None and (status == 200 or status >= 500)
    return isinstance(error, _IncompleteReplyError)


def _too_large(error: BaseException) -> bool:
    causes: Sequence[Any] = ()
    if isinstance(error, kusto.KustoMultiApiError):
        causes = error.get_api_errors()
    elif isinstance(error, kusto.KustoApiError):
        causes = (error.get_api_error(),)
    return any(
        cause.code == "LimitsExceeded" or "E_QUERY_RESULT_SET_TOO_LARGE" in str(cause.description)
        for cause in causes
    )


def _status(error: BaseException) -> int | None:
    response = getattr(error, "http_response", None)
    return None if response is None else int(response.status_code)


def _pause_asked_for(error: BaseException | None) -> float | None:
    response = getattr(error, "http_response", None)
    asked = "" if response is None else response.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else None


def _reason(error: BaseException | None) -> str:
    """The first line of what went wrong; never the body of a broken reply, which holds messages."""
    if error is not None and _status(error) == 200:
        return "the reply broke off"
    failure = getattr(error, "exception", error)
    cause = failure.__cause__ if isinstance(failure, kusto.KustoNetworkError) else None
    lines = str(cause or failure).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _table(reply: KustoResponseDataSet) -> pa.Table:
    table = reply.primary_results[0] if reply.primary_results else None
    if table is None:
        raise _IncompleteReplyError("a reply without a result came")
    rows = [row.to_list() for row in table]
    columns = {
        column.column_name: pa.array(
            [_value(row[column.ordinal]) for row in rows], _ARROW_TYPES[column.column_type]
        )
        for column in table.columns
    }
    return pa.table(columns)


def _value(value: object) -> object:
    # KQL's text is never null: where nothing is known, it is empty.
    return (clean_text(value) or None) if isinstance(value, str) else value
