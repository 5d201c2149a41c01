"""Logs read from a Kusto service: the same rows as from a file, whole or not at all."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.command import run
from tests.logs.kusto.engine import COLUMNS, Database
from tests.logs.kusto.server import (
    KustoServer,
    breaks_off,
    expired,
    fails_after_rows,
    fails_amid_rows,
    forbidden,
    is_an_error,
    is_no_json,
    throttled,
    unavailable,
    whole,
)
from turnout.errors import RecordError, SettingsError, StorageError, UpstreamError
from turnout.logs import ingest
from turnout.logs.kusto.cells import Bin, ReplyLimits, cells_of
from turnout.logs.kusto.ingest import ingest_kusto
from turnout.logs.kusto.kql import QueryParameters, query_text
from turnout.logs.kusto.service import Address, Patience
from turnout.simulation import simulate

pytestmark = pytest.mark.slow

FIRST, EVERY = "sft_session_router_first_turns", "sft_stratified_by_turn_count"
SALT = Path(__file__).with_name("salt.txt")
# Without an end the window ends at midnight, and two runs may lie on either side of it.
ALL_TIME = QueryParameters(days=20_000, until=dt.datetime(2026, 11, 1, tzinfo=dt.UTC))
HASTY = Patience(tries=4, first_pause_s=0.001, longest_pause_s=0.002)
KINDS = COLUMNS | {
    "assistantMessage": "string", "responseType": "string", "completionTokens": "long",
    "reasoningTokens": "long", "llmCalls": "int", "toolCounts": "string", "durationMs": "long",
    "userId": "string",
}  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A simulated log as Kusto holds it, and the turns table that ingest makes of its file."""
    folder = tmp_path_factory.mktemp("kusto")
    simulate(folder / "log", n_conversations=120, seed=5)
    ingest([folder / "log" / "turns.parquet"], folder / "turns.parquet", salt=SALT)
    named = {camel(name): name for name in pq.read_schema(folder / "log" / "turns.parquet").names}
    raw = pq.read_table(folder / "log" / "turns.parquet").to_pylist()
    rows = [{name: row[named[name]] for name in KINDS} for row in raw]
    return Database(rows, KINDS), pq.read_table(folder / "turns.parquet")


@pytest.fixture
def server(log):
    with KustoServer(log[0]) as running:
        yield running


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def read(server, out, query=FIRST, **options):
    """Ingest, without long pauses."""
    chosen = {"parameters": ALL_TIME, "patience": HASTY, "salt": SALT} | options
    return ingest_kusto(server.address, out, query=query, **chosen)


def compared(table):
    return table.drop_columns(["source"]).sort_by(
        [("conversation_id", "ascending"), ("turn_index", "ascending")]
    )


def test_first_turns_are_the_rows_of_the_same_log_read_from_a_file(server, log, tmp_path):
    report = read(server, tmp_path / "t.parquet")
    turns = pq.read_table(tmp_path / "t.parquet")
    expected = log[1].filter(pc.equal(log[1]["turn_index"], 1)).select(turns.column_names)
    assert same_but_for_what_kusto_has_not(turns, expected)
    assert turns.num_rows == report.rows_kept == report.rows_read > 100
    assert set(turns["source"].to_pylist()) == {server.address}
    assert turns["user_id"].null_count == 0


def test_every_turn_in_many_cells_is_the_rows_of_the_same_log_read_from_a_file(
    server, log, tmp_path
):
    read(server, tmp_path / "t.parquet", EVERY, limits=ReplyLimits(rows=150))
    turns = pq.read_table(tmp_path / "t.parquet")
    spans = (
        log[1]
        .group_by("conversation_id")
        .aggregate([("turn_index", "min"), ("turn_index", "max"), ("turn_index", "count")])
    )
    whole = spans.filter(
        pc.and_(
            pc.equal(spans["turn_index_min"], 1),
            pc.equal(spans["turn_index_max"], spans["turn_index_count"]),
        )
    )
    expected = log[1].filter(pc.is_in(log[1]["conversation_id"], whole["conversation_id"]))
    assert same_but_for_what_kusto_has_not(turns, expected)
    assert len(server.queries) > 4


def test_microsofts_parser_finds_no_fault_in_what_is_asked(server, parser, tmp_path):
    for query in (FIRST, EVERY):
        read(server, tmp_path / f"{query}.parquet", query)
    assert len(server.queries) == 6
    for kinds in (COLUMNS, KINDS):  # no optional column, and some
        for query in server.queries:
            assert parser.check(query, kinds)["problems"] == []


def same_but_for_what_kusto_has_not(actual, expected):
    """Whether the columns that the served table has are the same, row for row."""
    names = [name for name in actual.column_names if camel(name) in KINDS]
    assert set(names) > {"user_id", "reasoning_tokens"}
    return compared(actual).select(names).equals(compared(expected).select(names))


@pytest.mark.parametrize(
    "fault",
    [
        throttled(), throttled("0"), unavailable, fails_amid_rows, fails_after_rows, breaks_off,
        is_no_json, is_an_error,
    ],
    ids=[
        "429", "a pause", "503", "amid rows", "after rows", "broken off", "no JSON", "error",
    ],
)  # fmt: skip
def test_a_passing_failure_loses_no_row(server, log, tmp_path, fault):
    # Of the count, of the bins and of the rows.
    server.faults.extend([fault, fault, whole] * 3)
    steps = []
    read(server, tmp_path / "t.parquet", on_progress=lambda step, *_: steps.append(step))
    turns = pq.read_table(tmp_path / "t.parquet")
    assert turns.num_rows == pc.sum(pc.equal(log[1]["turn_index"], 1)).as_py()
    assert sum(step.startswith("waiting") for step in steps) == 6


@pytest.mark.parametrize("fault", [throttled(), fails_amid_rows, fails_after_rows, breaks_off])
def test_a_lasting_failure_leaves_no_table_and_says_so(server, tmp_path, fault):
    server.faults.extend([fault] * 20)
    with pytest.raises(UpstreamError, match=r"expected .* what was fetched is kept"):
        read(server, tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()


def test_a_broken_reply_is_not_shown(server, tmp_path):
    server.faults.extend([whole, whole, *[is_no_json] * 20])
    with pytest.raises(UpstreamError, match="the reply broke off") as caught:
        read(server, tmp_path / "t.parquet")
    assert len(str(caught.value)) < 400


class Token:
    """A credential as Azure's identity library gives one, with a token of our own."""

    def __init__(self, token):
        self._token = token

    def get_token(self, *_, **__):
        from azure.core.credentials import AccessToken

        return AccessToken(self._token, int(time.time()) + 3600)

    def close(self):
        pass


def test_an_expired_token_is_renewed(log, tmp_path):
    tokens = ["stale", "good"]
    with KustoServer(log[0], token="good") as server:
        report = read(server, tmp_path / "t.parquet", sign_in=lambda: Token(tokens.pop(0)))
    assert report.rows_kept > 100
    assert tokens == []


def test_a_token_that_stays_expired_says_how_to_sign_in(log, tmp_path):
    with (
        KustoServer(log[0], token="good") as server,
        pytest.raises(UpstreamError, match=r"signing in failed .* Run `az login`"),
    ):
        read(server, tmp_path / "t.parquet", sign_in=lambda: Token("stale"))


def test_a_refused_reader_is_told_whom_to_ask(server, tmp_path):
    server.faults.append(forbidden)
    with pytest.raises(UpstreamError, match="not a viewer"):
        read(server, tmp_path / "t.parquet")


def test_a_sign_in_that_is_asked_for_where_none_is_known_says_so(server, tmp_path):
    server.faults.append(expired)
    with pytest.raises(UpstreamError, match="signing in failed"):
        read(server, tmp_path / "t.parquet")


def test_a_query_that_the_service_refuses_names_what_to_set(server, tmp_path):
    unknown = QueryParameters(table="Nowhere")
    with pytest.raises(RecordError, match=r"refused .*Name yours with --table and --map"):
        read(server, tmp_path / "t.parquet", parameters=unknown)
    assert len(server.queries) == 1


def test_a_result_over_the_services_limit_is_split(log, tmp_path):
    with KustoServer(log[0], row_limit=250) as server:
        report = read(server, tmp_path / "t.parquet", EVERY)
    with KustoServer(log[0]) as server:
        whole = read(server, tmp_path / "whole.parquet", EVERY)
        asked_of_whole = len(server.queries)
    assert report.rows_kept == whole.rows_kept > 300
    assert asked_of_whole == 3
    small, large = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("t", "whole"))
    assert compared(small).equals(compared(large))


def test_turns_that_fit_no_reply_are_named(server, tmp_path):
    server.faults.extend([whole, whole, *[only_too_large] * 50])
    with pytest.raises(RecordError, match="do not fit into one reply"):
        read(server, tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()


def only_too_large(handler, _):
    text = "Query result set has exceeded a limit (E_QUERY_RESULT_SET_TOO_LARGE)."
    error = {"code": "LimitsExceeded", "message": "-", "@message": text, "@permanent": False}
    handler.send_json(400, {"error": error})


def test_a_rerun_says_up_to_date_and_a_changed_table_is_read_anew(log, tmp_path):
    rows = log[0].ask("ConversationTurns").to_pylist()
    with KustoServer(log[0]) as server:
        assert read(server, tmp_path / "t.parquet").fresh
        asked = len(server.queries)
        assert not read(server, tmp_path / "t.parquet").fresh
        assert len(server.queries) == asked + 2
        added = rows[0] | {"conversationId": "late", "turnIndex": 1, "userMessage": "come late"}
        server.database = Database([*rows, added], KINDS)
        assert read(server, tmp_path / "t.parquet").fresh
    assert "late" in pq.read_table(tmp_path / "t.parquet")["conversation_id"].to_pylist()


def test_a_killed_run_goes_on_where_it_stopped(server, tmp_path):
    out = tmp_path / "t.parquet"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import datetime as dt\n"
        "from turnout.logs.kusto.kql import QueryParameters\n"
        "from turnout.logs.kusto.ingest import ingest_kusto\n"
        "from turnout.logs.kusto.cells import ReplyLimits\n"
        "window = QueryParameters(days=20_000, until=dt.datetime.fromisoformat(sys.argv[5]))\n"
        "ingest_kusto(sys.argv[1], Path(sys.argv[2]), query=sys.argv[3], salt=Path(sys.argv[4]),\n"
        "    parameters=window, limits=ReplyLimits(rows=30))\n"
    )
    server.faults.extend([*[whole] * 4, lambda *_: os.kill(killed.pid, signal.SIGKILL)])
    arguments = [server.address, str(out), FIRST, str(SALT), ALL_TIME.until.isoformat()]
    killed = subprocess.Popen([sys.executable, "-c", code, *arguments])
    assert killed.wait(120) == -signal.SIGKILL
    assert not out.exists()
    (folder,) = tmp_path.glob(".t.parquet.*.kusto")
    assert folder.stat().st_mode & 0o077 == 0
    stored = {path.name for path in folder.glob("*.parquet")}
    assert len(stored) == 2
    server.queries.clear()
    steps = []
    read(server, out, limits=ReplyLimits(rows=30), on_progress=lambda *step: steps.append(step))
    cells = len({done for step, done, _ in steps if step == "fetch from Kusto"}) - 1
    assert cells > 3
    assert sum("turnIndex between" in query for query in server.queries) == cells - len(stored)
    assert not list(tmp_path.glob(".t.parquet.*"))
    read(server, tmp_path / "whole.parquet")
    assert compared(pq.read_table(out)).equals(compared(pq.read_table(tmp_path / "whole.parquet")))


def test_what_is_read_is_redacted_and_users_are_pseudonymised(log, tmp_path):
    row = log[0].ask("ConversationTurns").to_pylist()[0]
    row |= {"turnIndex": 1, "userMessage": "mail ann@example.org", "userId": "ann"}
    with KustoServer(Database([row], KINDS)) as server:
        report = read(server, tmp_path / "t.parquet", redact=True)
    (turn,) = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert "ann" not in turn["user_message"] and turn["user_id"] != "ann"
    assert sum(report.redacted.values()) == 1
    assert SALT.read_text().strip() not in (tmp_path / "t.parquet.manifest.json").read_text()


def test_an_empty_window_is_no_table(server, tmp_path):
    long_ago = QueryParameters(days=1, until=dt.datetime(1990, 1, 1))
    with pytest.raises(RecordError, match=r"gives no row; .*--days"):
        read(server, tmp_path / "t.parquet", parameters=long_ago)


def test_a_full_place_is_a_storage_error(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        read(server, tmp_path / "file" / "t.parquet")


@pytest.mark.parametrize("address", ["kusto://help", "kusto:///db", "https://help/db"])
def test_an_address_without_cluster_or_database_is_refused(address):
    with pytest.raises(SettingsError, match="expected kusto://CLUSTER/DATABASE"):
        Address.of(address)


def test_only_loopback_is_asked_without_encryption():
    assert Address.of("kusto://help.kusto.windows.net/Samples").cluster.startswith("https://")
    assert Address.of("kusto://127.0.0.1:1/Samples").cluster == "http://127.0.0.1:1"


def test_a_cluster_may_have_a_path():
    text = "kusto://ade.loganalytics.io/subscriptions/1/workspaces/w/Logs"
    address = Address.of(text)
    assert address.cluster == "https://ade.loganalytics.io/subscriptions/1/workspaces/w"
    assert address.database == "Logs"
    assert str(address) == text


def test_a_query_whose_rows_are_no_turns_is_refused(server, tmp_path):
    with pytest.raises(SettingsError, match=f"expected {FIRST} or {EVERY}"):
        read(server, tmp_path / "t.parquet", "model_switching")
    assert server.queries == []


def own_query(folder, old, new):
    """The path of a copy of the query for every turn, edited."""
    text = query_text(EVERY)
    assert text.count(old) == 1
    path = folder / "mine.kql"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace(old, new).encode())
    return str(path)


def test_an_edited_copy_of_a_query_is_read_in_cells_as_the_shipped_one_is(server, tmp_path):
    read(server, tmp_path / "every.parquet", EVERY)
    last = "| order by conversationId asc, turnIndex asc"
    filtered = own_query(tmp_path, last, f"| where turnIndex < 3\n{last};\r\n")
    server.queries.clear()
    read(server, tmp_path / "mine.parquet", filtered, limits=ReplyLimits(rows=100))
    assert len(server.queries) > 3
    every, mine = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("every", "mine"))
    assert compared(mine).equals(compared(every.filter(pc.less(every["turn_index"], 3))))
    assert 0 < mine.num_rows < every.num_rows
    assert not read(server, tmp_path / "mine.parquet", filtered).fresh


def test_a_copy_that_reads_no_parts_gives_no_table(server, tmp_path):
    whole = own_query(tmp_path, "    | where part between (firstPart .. lastPart)\n", "")
    with pytest.raises(UpstreamError, match="expected as many as were counted"):
        read(server, tmp_path / "t.parquet", whole, limits=ReplyLimits(rows=60))
    assert not (tmp_path / "t.parquet").exists()


@pytest.mark.parametrize("line", ["startTime", "endTime", "firstPart", "lastPart", "partOf"])
def test_a_copy_without_what_cells_rest_on_is_refused_before_the_service_is_asked(
    server, tmp_path, line
):
    path = own_query(tmp_path, f"let {line} = ", f"let my_{line} = ")
    with pytest.raises(SettingsError, match=rf"mine\.kql: no line `let {line} = …;`"):
        read(server, tmp_path / "t.parquet", path)
    assert server.queries == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parameters": QueryParameters()}, r"mine\.kql: no window; expected --days"),
        ({"parameters": QueryParameters(days=3, table="T")}, r"mine\.kql: --table is not in this"),
        ({"parameters": QueryParameters(days=3, percent=5)}, "setting 'sampledPercent' is not in"),
        ({"columns": {"prompt": "x"}}, r"mine\.kql: column 'prompt' is not in this query"),
    ],
)
def test_what_an_edited_copy_does_not_have_cannot_be_set(server, tmp_path, options, said):
    path = own_query(tmp_path, "let Source = ", "let Log = ")
    with pytest.raises(SettingsError, match=said):
        read(server, tmp_path / "t.parquet", path, **options)
    assert server.queries == []


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["absent", "no text"])
def test_a_query_file_that_cannot_be_read_is_named(server, tmp_path, content):
    if content:
        (tmp_path / "mine.kql").write_bytes(content)
    with pytest.raises(SettingsError, match=r"mine\.kql: cannot be read .* `turnout kql` prints"):
        read(server, tmp_path / "t.parquet", str(tmp_path / "mine.kql"))


BINS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 4)), unique=True, min_size=1, max_size=30
).flatmap(
    lambda places: st.tuples(
        *[st.builds(Bin, st.just(part), st.just(block), st.integers(1, 9), st.integers(0, 99))
          for part, block in places]
    )
)  # fmt: skip


@given(BINS, st.integers(1, 30), st.integers(1, 300))
def test_every_bin_lies_in_one_cell_that_holds_no_other(bins, rows, size_bytes):
    limits = ReplyLimits(rows, size_bytes)
    cells = cells_of(bins, limits)
    assert [each for cell in cells for each in cell.bins] == sorted(bins)
    for cell in [*cells, *(small for each in cells for small in each.split())]:
        (first, last), (least, greatest) = cell.parts, cell.turn_indices
        inside = [
            each for each in sorted(bins)
            if first <= each.part <= last and least <= each.block * 100 <= greatest
        ]  # fmt: skip
        assert tuple(inside) == cell.bins
        assert limits.hold(cell.bins) or len(cell.bins) == 1
    assert all(len(cell.split()) > 1 for cell in cells if len(cell.bins) > 1)


def test_the_verb_reads_a_database_and_prints_the_account(server, tmp_path):
    out = tmp_path / "t.parquet"
    shown = run(
        "ingest", server.address, "--query", FIRST, "--days", 20_000, "--percent", 50,
        "--map", "user_message=userMessage", "-o", out, "--json",
    )  # fmt: skip
    account = json.loads(shown.stdout)
    assert 0 < account["rows_kept"] == pq.read_metadata(out).num_rows < 100
    assert "fetch from Kusto" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kusto://127.0.0.1:9/db"], "expected --query NAME"),
        (["kusto://127.0.0.1:9/db", "a.jsonl", "--query", FIRST], "found beside other sources"),
        (["a.jsonl", "--query", FIRST], "found without a database"),
        (["a.jsonl", "--days", "3"], "found without a database"),
    ],
)
def test_the_verb_refuses_what_does_not_go_together(arguments, said, tmp_path):
    shown = run("ingest", *arguments, "-o", tmp_path / "t.parquet", ok=False)
    assert shown.returncode == SettingsError.exit_code
    assert said in shown.stderr


def test_the_extra_is_named_where_it_is_missing():
    code = (
        "import sys; sys.modules['azure'] = None\n"
        "from turnout.cli import main\n"
        f"sys.argv = ['turnout', 'ingest', 'kusto://h/d', '--query', '{FIRST}', '-o', 'x']\n"
        "main()\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 2
    assert "pip install 'turnout[kusto]'" in shown.stderr
