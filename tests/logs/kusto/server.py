"""A server of the Kusto v2 query protocol: answers with what DuckDB finds, or fails as told."""

import datetime as dt
import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import duckdb
import duckdb_kql
import pyarrow as pa

from tests.logs.kusto.engine import Database

_KINDS = [
    (pa.types.is_boolean, "bool"),
    (pa.types.is_int32, "int"),
    (pa.types.is_integer, "long"),
    (pa.types.is_decimal, "long"),
    (pa.types.is_floating, "real"),
    (pa.types.is_timestamp, "datetime"),
    (pa.types.is_string, "string"),
]


class KustoServer:
    """Serves one table on loopback.

    `faults` are used up one a query: each is a function that answers instead, of the handler and of
    a function that gives the frames of the true answer. `row_limit` is what one reply may hold.
    """

    def __init__(self, database: Database, *, row_limit=500_000, token=None):
        self.database = database
        self.row_limit = row_limit
        self.token = token
        self.faults = deque()
        self.queries = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def address(self):
        return f"kusto://127.0.0.1:{self._http.server_port}/Chats"

    def answer(self, query):
        """The frames of the answer."""
        with self._lock:
            table = self.database.ask(query)
        if table.num_rows > self.row_limit:
            rows = [_listed(row) for row in table.slice(0, self.row_limit).to_pylist()]
            return _frames(table.schema, [*rows, too_large()])
        return _frames(table.schema, [_listed(row) for row in table.to_pylist()])


def whole(handler, answer):
    """No fault: the true answer."""
    handler.send_json(200, answer())


def throttled(retry_after=None):
    def fault(handler, _):
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        handler.send_json(429, {"error": {"code": "TooManyRequests", "message": "slow"}}, headers)

    return fault


def unavailable(handler, _):
    handler.send_json(503, {"error": {"code": "Unavailable", "message": "busy"}})


def fails_amid_rows(handler, answer):
    """Half the rows, then an error where a row would be."""
    frames = answer()
    rows = frames[1]["Rows"]
    frames[1]["Rows"] = [*rows[: len(rows) // 2], _one_api_error("Internal", "a node was lost")]
    handler.send_json(200, frames)


def fails_after_rows(handler, answer):
    """A row is missing, and the last frame alone tells of an error."""
    frames = answer()
    frames[1]["Rows"] = frames[1]["Rows"][:-1]
    error = _one_api_error("Internal", "a node was lost")
    frames[-1] |= {"HasErrors": True, "OneApiErrors": error["OneApiErrors"]}
    handler.send_json(200, frames)


def breaks_off(handler, answer):
    """Half the bytes of what was announced."""
    body = json.dumps(answer()).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def is_no_json(handler, answer):
    """Half a document, sent as if it were whole."""
    handler.send_body(200, json.dumps(answer()).encode()[:-200])


def is_an_error(handler, _):
    """An error where the frames would be, with the status of success."""
    handler.send_json(200, {"error": {"code": "Internal", "message": "a node was lost"}})


def expired(handler, _):
    handler.send_json(401, {"error": {"code": "Unauthorized", "message": "token expired"}})


def forbidden(handler, _):
    handler.send_json(
        403, {"error": {"code": "Forbidden", "message": "no", "@message": "not a viewer"}}
    )


def too_large():
    return _one_api_error(
        "LimitsExceeded", "Query result set has exceeded a limit (E_QUERY_RESULT_SET_TOO_LARGE)."
    )


def _one_api_error(code, text):
    error = {"code": code, "message": text, "@message": text, "@permanent": False}
    return {"OneApiErrors": [{"error": error}]}


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_json(404, {"error": {"code": "NotFound", "message": self.path}})

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v2/rest/query" and asked["db"] == "Chats"
            if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                expired(self, None)
                return
            server.queries.append(asked["csl"])
            fault = server.faults.popleft() if server.faults else whole
            try:
                fault(self, lambda: server.answer(asked["csl"]))
            except (duckdb.Error, duckdb_kql.errors.KqlError) as error:
                refused = {"code": "General_BadRequest", "message": "bad", "@message": str(error)}
                self.send_json(400, {"error": refused | {"@permanent": True}})

        def send_json(self, status, value, headers=None):
            self.send_body(status, json.dumps(value).encode(), headers)

        def send_body(self, status, body, headers=None):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def _listed(row):
    return [_json(value) for value in row.values()]


def _json(value):
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="microseconds") + "0Z"
    # Sums come as decimals.
    return int(value) if type(value).__name__ == "Decimal" else value


def _frames(schema, rows):
    columns = [
        {"ColumnName": field.name, "ColumnType": next(n for is_, n in _KINDS if is_(field.type))}
        for field in schema
    ]
    return [
        {"FrameType": "DataSetHeader", "IsProgressive": False, "Version": "v2.0"},
        {"FrameType": "DataTable", "TableId": 0, "TableKind": "PrimaryResult",
         "TableName": "PrimaryResult", "Columns": columns, "Rows": rows},
        {"FrameType": "DataSetCompletion", "HasErrors": False, "Cancelled": False},
    ]  # fmt: skip
