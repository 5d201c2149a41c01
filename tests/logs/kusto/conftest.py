"""Microsoft's parser, once for all tests: it takes seconds to start."""

import pytest

from tests.logs.kusto.engine import PARSER, Parser


@pytest.fixture(scope="session")
def parser():
    if not PARSER.is_dir():
        pytest.skip("Microsoft's parser is not here: `make test` fetches it where npm is installed")
    return Parser()
