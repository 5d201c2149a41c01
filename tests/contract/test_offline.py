"""No verb reaches beyond this machine unless its command names where."""

import subprocess
import sys

import pytest

from tests.network import watch
from tests.training.conftest import write_base
from tests.upstream import Status, Upstream
from turnout.cli import VERBS
from turnout.errors import UpstreamError

pytestmark = pytest.mark.slow

# These name another machine; tests/hub and tests/routing watch that they reach only that.
NAME_ANOTHER = {"push", "pull", "serve"}
LINE = """
simulate -o log --conversations 200 --seed 3
kql
ingest log/turns.parquet -o turns.parquet
switches turns.parquet -o switches
label turns.parquet -o labels.parquet
judge turns.parquet -o judged.parquet --base-url {endpoint} --model j --sample 1 --yes
build turns.parquet -o data --architecture session --size 200
train data -o router --base base --max-tokens 64 --epochs 1
evaluate router data -o report
threshold router turns.parquet --share 0.3
replay router turns.parquet -o replay --reasoning-model o3 --fast-model gpt-4o-mini
learn log/turns.parquet -o mine --dry-run
drift router turns.parquet -o drift
score router turns.parquet --text-column user_message -o scores.parquet
route router hello
settings
"""
# All in one process: what a library starts in the background goes on while later verbs run.
RUN = """
import sys
from turnout.cli import main
for command in sys.argv[1:]:
    sys.argv = ["turnout", *command.split()]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    print(f"exit {code or 0}: {command}")
"""


def test_no_verb_reaches_beyond_this_machine(tmp_path):
    watch.require()
    write_base(tmp_path / "base")
    with Upstream() as judge:
        judge.behaviours["j"] = [Status(401)]
        commands = LINE.format(endpoint=f"{judge.url}/v1").strip().splitlines()
        assert {command.split()[0] for command in commands} == set(VERBS) - NAME_ANOTHER
        done = subprocess.run(
            [sys.executable, "-c", RUN, *commands],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=watch.environment() | {"OPENAI_API_KEY": "none"},
        )
    assert watch.attempts() == []
    codes = {"judge": UpstreamError.exit_code}
    ended = [f"exit {codes.get(command.split()[0], 0)}: {command}" for command in commands]
    shown = [line for line in done.stdout.splitlines() if line.startswith("exit ")]
    assert shown == ended, done.stderr[-2000:]
