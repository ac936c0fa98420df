"""Headless Chromium over its DevTools pipe: what a page says, what it asks for, how it looks."""

import base64
import json
import os
import select
import shutil
import subprocess

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
# Two frames later the media queries are answered, and the pictures that they choose are loading.
SETTLED = """
new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve))).then(
  () => new Promise(resolve => {
    const look = () =>
      [...document.images].every(image => image.complete) ? resolve() : setTimeout(look, 20);
    look();
  }))
"""
LOUD = ("error", "warning", "assert")  # levels of what the console shows
PATIENCE_S = 180  # A slow machine takes ten seconds to start it; a dead one never answers.


def find():
    """The first of `PROGRAMS` that is installed, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One Chromium with an empty profile; it reads commands from file 3 and answers in file 4."""

    def __init__(self, program, profile):
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        self._log = profile / "chromium.log"
        shell = ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}']
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*shell, "bash", program, *FLAGS, f"--user-data-dir={profile}"],
                pass_fds=(commands, answers),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(commands)
        os.close(answers)
        self._buffer, self._count, self._events = b"", 0, []

    def send(self, method, session=None, **params):
        """The answer to a command; events that come before it are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            self._events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def events(self, session, method):
        """The parameters of all events of that name so far."""
        return [
            event["params"]
            for event in self._events
            if event.get("sessionId") == session and event["method"] == method
        ]

    def wait_for(self, session, method):
        """Returns once there was such an event."""
        while not self.events(session, method):
            self._events.append(self._receive())

    def _receive(self):
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], PATIENCE_S)[0]:
                raise TimeoutError(f"Chromium said nothing for {PATIENCE_S} s.")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise EOFError(f"Chromium ended: {self._log.read_text(errors='replace')[-2000:]}")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def close(self):
        """Ends Chromium, by force if it doesn't listen."""
        try:
            self.send("Browser.close")
            self._process.wait(PATIENCE_S)
        except (OSError, EOFError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)


class Page:
    """A file opened in a tab of its own."""

    def __init__(self, browser, path):
        self._browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.send("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Log", "Runtime", "Network", "Page"):
            self._send(f"{domain}.enable")
        self._send("Page.navigate", url=path.resolve().as_uri())
        browser.wait_for(self._session, "Page.loadEventFired")

    def _send(self, method, **params):
        return self._browser.send(method, self._session, **params)

    def evaluate(self, expression):
        """The value of a JavaScript expression, awaited."""
        options = {"awaitPromise": True, "returnByValue": True}
        answer = self._send("Runtime.evaluate", expression=expression, **options)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def complaints(self):
        """What the console shows: errors, warnings and uncaught exceptions."""
        logs = self._events("Log.entryAdded")
        calls = self._events("Runtime.consoleAPICalled")
        thrown = self._events("Runtime.exceptionThrown")
        return [
            *(log["entry"]["text"] for log in logs if log["entry"]["level"] in LOUD),
            *(str(call["args"]) for call in calls if call["type"] in LOUD),
            *(each["exceptionDetails"]["text"] for each in thrown),
        ]

    def requests(self):
        """What the page asked for besides itself and what it holds within."""
        urls = [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")][1:]

    def _events(self, method):
        self.evaluate("new Promise(resolve => setTimeout(resolve, 50))")  # They may come late.
        return self._browser.events(self._session, method)

    def show(self, width, scheme):
        """As wide as that in pixels, a phone below 600, in "light" or "dark"."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._send("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._send("Emulation.setEmulatedMedia", features=features)
        self.evaluate(SETTLED)

    def screenshot(self, whole=False):
        """What is seen, or the whole page, as a PNG file."""
        answer = self._send("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def print(self):
        """The page on paper, as a PDF file."""
        return base64.b64decode(self._send("Page.printToPDF", printBackground=True)["data"])
