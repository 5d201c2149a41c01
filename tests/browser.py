"""A page in real Chromium: what it complains of, and what it asks the network for."""

import base64
import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from websockets.sync.client import connect

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


@dataclass(frozen=True, slots=True)
class Look:
    """How a page is looked at.

    Attributes:
        width: Of the window, in CSS pixels.
        scheme: What the reader prefers.
        medium: Where it is shown.
    """

    width: int
    scheme: Literal["light", "dark"] = "light"
    medium: Literal["screen", "print"] = "screen"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a page looks like.

    Attributes:
        complaints: What the console says.
        overflow: Pixels by which the page is wider than the window.
        too_wide: What reaches beyond the window, boxes that scroll by themselves left out.
        ground: Colour behind the page.
        scripts: How many there are.
        text: All that is to be read.
        picture: PNG.
    """

    complaints: list[str]
    overflow: int
    too_wide: list[str]
    ground: str
    scripts: int
    text: str
    picture: bytes


# What reaches beyond the window and is not inside a box of its own that scrolls.
_MEASURE = """
(() => {
  const width = document.documentElement.clientWidth;
  const scrolls = e => e && (getComputedStyle(e).overflowX === "auto" || scrolls(e.parentElement));
  const wide = [...document.body.querySelectorAll("*")].filter(
    e => e.getBoundingClientRect().right > width + 1 && !scrolls(e) && !e.closest("svg"));
  return {
    overflow: document.documentElement.scrollWidth - width,
    too_wide: wide.map(e => e.tagName + " " + e.textContent.trim().slice(0, 60)),
    ground: getComputedStyle(document.body).backgroundColor,
    scripts: document.scripts.length,
    text: document.body.innerText,
  };
})()
"""


class Browser:
    """One Chromium for many pages, asked over the DevTools protocol.

    Args:
        scratch: Where its profile lies.
    """

    def __init__(self, scratch: Path) -> None:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        if chromium is None:
            pytest.skip("no chromium is here")
        profile = scratch / "profile"
        self._open = ExitStack()
        self._process = subprocess.Popen(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-port=0",
                f"--user-data-dir={profile}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._open.callback(self._end)
        port, path = self._address(profile / "DevToolsActivePort")
        address = f"ws://127.0.0.1:{port}{path}"
        self._socket = self._open.enter_context(connect(address, max_size=None))
        self._calls = 0
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def _address(self, file: Path) -> tuple[str, str]:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            lines = file.read_text().splitlines() if file.exists() else []
            if len(lines) == 2:
                return lines[0], lines[1]
            time.sleep(0.05)
        self.close()
        raise TimeoutError("chromium did not open its DevTools port")

    def see(self, page: Path, look: Look) -> Seen:
        """Open a page and look at it."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=look.width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": look.scheme}
        self._call("Emulation.setEmulatedMedia", media=look.medium, features=[scheme])
        self._events.clear()
        self._call("Page.navigate", url=page.as_uri())
        self._until("Page.loadEventFired")
        measured = self._call("Runtime.evaluate", expression=_MEASURE, returnByValue=True)
        picture = self._call("Page.captureScreenshot", format="png")
        complaints = [
            json.dumps(event["params"])
            for event in self._events
            if event["method"]
            in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        ]
        values = measured["result"]["value"]
        return Seen(complaints, picture=base64.b64decode(picture["data"]), **values)

    def close(self) -> None:
        """End it."""
        self._open.close()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    def _call(self, method: str, **params: object) -> dict[str, Any]:
        self._calls += 1
        call = {"id": self._calls, "method": method, "params": params}
        if getattr(self, "_session", None) is not None:
            call["sessionId"] = self._session
        self._socket.send(json.dumps(call))
        while True:
            answer = self._read()
            if answer.get("id") == self._calls:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _until(self, method: str) -> None:
        while not any(event["method"] == method for event in self._events):
            self._read()

    def _read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=120))
        if "method" in message:
            self._events.append(message)
        return message
