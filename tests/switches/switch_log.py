"""A small log with every kind of switch and of fallback; run it to write the goldens anew.

python -m tests.switches.switch_log
"""

import io
import json
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console

from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.cli.switches import show
from turnout.logs import ingest
from turnout.simulation import simulate
from turnout.stage import report_json
from turnout.switches import report_switches

GOLDENS = Path(__file__).parent / "goldens"
OPUS, SONNET, GPT, O3 = "claude-opus-4-5", "claude-sonnet-4-5", "gpt-4o", "o3"


def write_log(folder: Path) -> Path:
    """150 simulated conversations, and one for each kind of fallback."""
    simulate(folder / "log", n_conversations=150, seed=5)
    ingest([folder / "log" / "turns.parquet"], folder / "simulated.parquet")
    made = [
        turn("limit", 1, "ask", O3, response_type="rate_limited"),
        turn("limit", 2, "ask more", GPT),
        turn("limit", 3, "and more", O3),
        turn("retry", 1, "ask", OPUS, response_type="failed"),
        turn("retry", 2, "ask again", SONNET),
        turn("agent", 1, "ask", OPUS),
        turn("agent", 2, "look for it", SONNET, mode="subagent"),
        turn("agent", 3, "thanks", OPUS),
        turn("there and back", 1, "ask", OPUS),
        turn("there and back", 2, "ask", O3),
        turn("there and back", 3, "more", OPUS),
        turn("product", 1, "ask", OPUS),
        turn("product", 2, "ask more", SONNET, chosen_by="product"),
        turn("router", 1, "ask", OPUS),
        turn("router", 2, "ask more", SONNET, chosen_by="router"),
        turn("nobody knows", 1, "ask", "model-of-tomorrow"),
        turn("nobody knows", 2, "<b>ask</b> & more", GPT),
    ]
    simulated = pq.read_table(folder / "simulated.parquet").to_pylist()
    return write_turns(folder / "turns.parquet", [*simulated, *made])


def printed(report) -> str:
    """What the terminal shows."""
    stream = io.StringIO()
    show(report, Console(file=stream, width=120, highlight=False))
    return stream.getvalue()


def as_json(report) -> str:
    """What `--json` shows."""
    return json.dumps(report_json(report), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        report = report_switches(write_log(Path(scratch)), load_catalog(), n_examples=1)
    GOLDENS.mkdir(exist_ok=True)
    (GOLDENS / "switches.txt").write_text(printed(report))
    (GOLDENS / "switches.json").write_text(as_json(report))
