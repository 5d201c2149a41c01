"""A page in real Chromium: what it complains of, and what it asks the network for."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

# What the browser's log writes of a request that no page made.
_BROWSERS_OWN = "not an origin"


def opened(page: Path, scratch: Path) -> tuple[list[str], list[str], str]:
    """Open a page: its console's lines, the addresses it asked for, and its document as drawn.

    No name is resolved, so nothing is reached. The test is skipped where no Chromium is.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium is here")
    log = scratch / "network.json"
    shown = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
            f"--user-data-dir={scratch / 'profile'}", f"--log-net-log={log}",
            "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=180,
    )  # fmt: skip
    complaints = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = {e["url"] for e in events if e.get("initiator", _BROWSERS_OWN) != _BROWSERS_OWN}
    return complaints, sorted(asked), shown.stdout
