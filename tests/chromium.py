"""A headless Chromium for tests, driven by its DevTools protocol through a pair of pipes."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
MISSING = "there is no chromium here: apt-get install chromium"
PATIENCE = 30.0  # seconds until something is taken for hanging


class Page:
    """A page that was opened from disk.

    Attributes:
        complaints: what the page wrote to its console, or threw.
    """

    def __init__(self, path: Path, profile: Path, *, size: tuple[int, int] = (1280, 900)) -> None:
        assert PROGRAM is not None, MISSING
        (out, to_browser), (from_browser, back) = os.pipe(), os.pipe()

        def hand_over() -> None:  # the browser reads from 3 and writes to 4
            read, write = os.dup(out), os.dup(back)
            os.dup2(read, 3)
            os.dup2(write, 4)

        self._process = subprocess.Popen(
            [
                PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={profile}",
                f"--window-size={size[0]},{size[1]}", "--force-color-profile=srgb", "about:blank",
            ],
            pass_fds=(3, 4), preexec_fn=hand_over,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(out)
        os.close(back)
        self._to, self._from = to_browser, from_browser
        self._numbers, self._received = itertools.count(1), b""
        self.complaints: list[str] = []
        self._session: str | None = None
        target = next(
            t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"
        )
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.until("document.readyState === 'complete'")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol; its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._to, content) :]
        while (answer := self._message()).get("id") != number:
            self._note(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            if not select.select([self._from], [], [], PATIENCE)[0]:
                raise AssertionError(f"chromium says nothing for {PATIENCE:g} s")
            more = os.read(self._from, 1 << 20)
            if not more:
                raise AssertionError("chromium has ended")
            self._received += more
        text, self._received = self._received.split(b"\0", 1)
        return json.loads(text)

    def _note(self, event: dict[str, Any]) -> None:
        what = event.get("method")
        if what in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(event["params"])[:2000])

    def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is, in the page."""
        result = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in result:
            raise AssertionError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        began = time.monotonic()
        while not self.run(condition):
            if self.complaints or time.monotonic() - began > PATIENCE:
                raise AssertionError(f"not within {PATIENCE:g} s: {condition}; {self.complaints}")
            time.sleep(0.02)

    def press(self, key: str, code: int = 0) -> None:
        """Press and release a key, where the focus is."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            own = text if kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **own
            )

    def choose_file(self, selector: str, path: Path) -> None:
        """Hand a file to an input."""
        found = self.call(
            "Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})"
        )
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def screenshot(self, path: Path) -> None:
        """Write what is seen as PNG."""
        shot = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
