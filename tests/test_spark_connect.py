"""A Spark Connect server gives what DuckDB gives, byte for byte, and is left without a session."""

import pytest

from tests.dataset.test_spark import gives_the_bytes_that_duckdb_gives
from tests.labels.test_spark import (
    LABEL,
    SWITCHES,
    gave_the_labels_that_duckdb_gives,
    gave_the_switches_that_duckdb_gives,
    with_a_log,
)
from tests.spark import connect_server, run_verbs


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with connect_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.mark.slow
def test_a_connect_server_gives_the_data_set_and_its_session_is_closed(server, tmp_path):
    address, log = server
    gives_the_bytes_that_duckdb_gives(tmp_path, address, "conversation")
    assert "SessionHolder: Closing session" in log.read_text()


@pytest.mark.slow
def test_a_connect_server_gives_the_labels_and_the_switches(server, tmp_path):
    address, _ = server
    folder = with_a_log(tmp_path)
    run_verbs(folder, LABEL, SWITCHES, engine=address)
    gave_the_labels_that_duckdb_gives(folder)
    gave_the_switches_that_duckdb_gives(folder)
