"""A table is read as it is, whatever its folders and its file are called."""

from pathlib import Path

import pytest

from tests.cli.command import run
from tests.tables import turn, write_turns
from tests.tiny_router import write_router
from turnout.manifest import MANIFEST_NAME

pytestmark = pytest.mark.slow

VERBS = {
    "ingest": [],
    "switches": ["--json"],
    "label": [],
    "build": ["--architecture", "session", "--split", "50:25:25"],
    "score": ["--text-column", "user_message"],
    "threshold": ["--share", "0.5", "--json"],
}
# Engines take the first for partitions, and what lies in the second for patterns.
FOLDERS = ["user_message=x/turn_index=9/reasoning_tokens=0/model=o3", "logs [1-2]*"]
MESSAGES = ["prove it", "thanks", "derive it", "hello", "refactor it all", "spell it"]


def log(path, n_conversations=24):
    """Conversations of two turns each, whose model is that of what they ask."""
    path.parent.mkdir(parents=True)
    # Unlike one another: nearly equal rows stand in one split.
    asked = [f"{MESSAGES[n % len(MESSAGES)]} " + chr(97 + n) * 40 for n in range(n_conversations)]
    write_turns(
        path,
        (
            turn(f"c{n}", index, message, "o3" if n % 2 == 0 else "gpt-4o-mini", source="app")
            for n, message in enumerate(asked)
            for index in (1, 2)
        ),
    )


def made_of(verb, folder, name):
    """What a verb prints and writes of a log in that folder."""
    output = [] if verb == "threshold" else ["-o", "made"]
    router = ["router"] if verb in ("score", "threshold") else []
    done = run(verb, *router, name, *output, *VERBS[verb], cwd=folder)
    made = folder / "made"
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in (made, *made.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }
    printed = done.stdout.replace(Path(name).name, "LOG") if "--json" in VERBS[verb] else ""
    return files, printed


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_name_changes_nothing_of_what_a_verb_makes(verb, folder, tmp_path):
    plain, odd = tmp_path / "plain", tmp_path / "odd" / folder
    log(plain / "turns.parquet")
    log(odd / "turns[1]?.parquet")
    # What the name would match as a pattern.
    log(tmp_path / "odd" / "logs 1X" / "turns1x.parquet", n_conversations=3)
    for place in (plain, odd):
        write_router(place / "router")
    wanted = made_of(verb, plain, "turns.parquet")
    made = made_of(verb, odd, odd / "turns[1]?.parquet")
    assert made == wanted
