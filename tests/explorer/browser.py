"""A headless Chromium that is spoken to by its debugging protocol, over a pair of pipes."""

import json
import os
import subprocess


class Browser:
    """One browser; each script runs in a new page."""

    def __init__(self, program, profile):
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        options.append(f"--user-data-dir={profile}")
        theirs, ours = os.pipe()
        answers, their_answers = os.pipe()
        # The browser reads from descriptor 3 and writes to descriptor 4.
        command = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{their_answers}', "bash", program, *options]
        without_sanitizer = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=(theirs, their_answers), env=without_sanitizer, **quiet)
        os.close(theirs)
        os.close(their_answers)
        self.requests, self.answers = os.fdopen(ours, "wb", buffering=0), os.fdopen(answers, "rb")
        self.number = 0

    def _message(self):
        message = b""
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            message += byte
        return json.loads(message)

    def _ask(self, method, session=None, event=None, **params):
        """The result of a request and, of those that have one, the event that says it is done."""
        self.number += 1
        request = {"id": self.number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self.requests.write(json.dumps(request).encode() + b"\0")
        result, is_over = None, event is None
        while result is None or not is_over:
            message = self._message()
            assert "error" not in message, message
            if message.get("id") == self.number:
                result = message["result"]
            is_over = is_over or (message.get("method") == event and message.get("sessionId") == session)
        return result

    def run(self, page, script, width=1200, height=800):
        """What the body of a function returns that runs in a page when its first frame is drawn."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Emulation.setDeviceMetricsOverride", session, width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._ask("Page.enable", session)
        self._ask("Page.navigate", session, event="Page.loadEventFired", url=page)
        frame = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
        expression = f"{frame}.then(() => {{ {script} }})"
        answer = self._ask("Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True)
        self._ask("Target.closeTarget", targetId=target)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def close(self):
        """A browser that nobody writes to any more ends, and its own processes with it."""
        self.requests.close()
        self.answers.read()
        self.answers.close()
        self.process.wait()
