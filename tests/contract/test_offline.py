"""No verb reaches beyond this machine unless its command names where."""

import subprocess
import sys
import time

import httpx
import pytest

from tests.cli.command import TURNOUT
from tests.network import watch
from tests.replay.test_drift import with_reference
from tests.servers import free_port, listens
from tests.upstream import Status, Upstream
from turnout.cli import VERBS
from turnout.errors import UpstreamError

pytestmark = pytest.mark.slow

# tests/hub watches that push and pull reach only the machine that they name, tests/demo those that
# train.
WATCHED_ELSEWHERE = {"push", "pull", "train", "learn"}
LINE = """
simulate -o log --conversations 100 --seed 3
kql
ingest log/turns.parquet -o turns.parquet
switches turns.parquet -o switches
label turns.parquet -o labels.parquet
judge turns.parquet -o judged.parquet --base-url {endpoint} --model j --sample 1 --yes
build turns.parquet -o data --architecture session --size 100
evaluate router data -o report
threshold router turns.parquet --share 0.3
replay router turns.parquet -o replay --reasoning-model o3 --fast-model gpt-4o-mini
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


# With reports on, ONNX Runtime's first look-up comes nine seconds after its import.
SERVED_S = 12


def test_no_verb_reaches_beyond_this_machine(tmp_path):
    watch.require()
    port, router = free_port(), with_reference(tmp_path / "router", "session")
    with Upstream() as upstream:
        upstream.behaviours["j"] = [Status(401)]
        (tmp_path / "turnout.toml").write_text(
            f'[upstreams.u]\nurl = "{upstream.url}/v1"\n'
            '[targets.reasoning]\nupstream = "u"\nmodel = "deep"\n'
            '[targets.fast]\nupstream = "u"\nmodel = "quick"\n'
        )
        commands = LINE.format(endpoint=f"{upstream.url}/v1").strip().splitlines()
        verbs = {command.split()[0] for command in commands}
        assert verbs == set(VERBS) - WATCHED_ELSEWHERE - {"serve"}
        serve = [*TURNOUT, "serve", router, "-c", tmp_path / "turnout.toml", "--port", str(port)]
        with subprocess.Popen(serve, env=watch.environment(), stderr=subprocess.DEVNULL) as gateway:
            while gateway.poll() is None and not listens(port):
                pass
            served_until = time.monotonic() + SERVED_S
            done = subprocess.run(
                [sys.executable, "-c", RUN, *commands],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                env=watch.environment() | {"OPENAI_API_KEY": "none"},
            )
            time.sleep(max(0, served_until - time.monotonic()))
            body = {"messages": [{"role": "user", "content": "prove it"}]}
            try:
                httpx.post(f"http://127.0.0.1:{port}/v1/route", json=body).raise_for_status()
            finally:
                gateway.terminate()
    assert watch.attempts() == []
    codes = {"judge": UpstreamError.exit_code}
    ended = [f"exit {codes.get(command.split()[0], 0)}: {command}" for command in commands]
    shown = [line for line in done.stdout.splitlines() if line.startswith("exit ")]
    assert shown == ended, done.stderr[-2000:]
