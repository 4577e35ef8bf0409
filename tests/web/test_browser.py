"""The dashboard in a browser, where one is found: Chromium, without a window (Debian package `chromium`)."""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from imagechain.chain import BuildFinished, BuildStarted, Paused
from imagechain.service.known import Known
from imagechain.store import BuildRow, Store
from imagechain.web import make_app
from service.program import free_port
from web.parts import API_TOKEN, HOOK_KEY, NOW, FakeService, write_builds
from web.shown import ShownService

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="the dashboard is tried in Chromium: install the Debian package chromium"
)
#: The browser's own time, which runs as fast as nothing has to be waited for.
_LOOK_MS = 12_000
_CHROMIUM_SECONDS_MAX = 180
_NAME = "images/<img src=x onerror=console.error(1)>"


class Changing(ShownService):
    """Something fails as soon as it was asked for the first time."""

    def __init__(self) -> None:
        super().__init__(
            [("images/app", "images/base"), ("images/leaf", "images/app"), (_NAME, "images/base")]
        )
        self.asked = 0

    async def known(self) -> Known | None:
        self.asked += 1
        if self.asked == 2:
            self.move("images/base")
            assert self.chain is not None
            self.chain.apply(BuildStarted(project="images/app", build="7", at=NOW - 90))
            self.chain.apply(BuildFinished(project="images/app", build="7", at=NOW - 9, outcome="failed"))
        return await super().known()


@contextmanager
def serving(store: Store, service: FakeService) -> Iterator[str]:
    app = make_app(store, service, hook_key=HOOK_KEY, api_token=API_TOKEN, now=lambda: NOW)
    port = free_port()
    with running(app, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(app: Starlette, port: int) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.05)
        yield
    finally:
        server.should_exit = True
        thread.join()


def look(url: str, folder: Path) -> tuple[str, list[str]]:
    """Open a page, and give it as it is after some time, and what the browser complained of."""
    argv = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--log-level=0",
        f"--virtual-time-budget={_LOOK_MS}", "--dump-dom", url,
    ]  # fmt: skip
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, check=True, timeout=_CHROMIUM_SECONDS_MAX
    )
    return done.stdout.decode(), re.findall(r"CONSOLE.*", done.stderr.decode(errors="replace"))


def test_a_complaint_of_the_browser_is_seen_here(tmp_path: Path) -> None:
    async def answer(_: object) -> HTMLResponse:
        page = "<link rel=icon href=data:,><script>document.title = 'ran'</script>"
        return HTMLResponse(page, headers={"Content-Security-Policy": "script-src 'self'"})

    port = free_port()
    with running(Starlette(routes=[Route("/", answer)]), port):
        _, complaints = look(f"http://127.0.0.1:{port}/", tmp_path)
    assert "Content Security Policy" in complaints[0]


def test_a_page_takes_up_what_changes_without_a_complaint(store: Store, tmp_path: Path) -> None:
    service = Changing()
    with serving(store, service) as url:
        page, complaints = look(f"{url}/", tmp_path)
    assert complaints == []
    # Five seconds apart.
    assert 2 <= service.asked <= 4
    assert "<title>(1 failed) Images" in page
    assert re.search(r'<span class="badge failed">', page)
    assert re.search(r"<time [^>]*>[0-9,]+ (sec|min|hr|day)[^<]*ago</time>", page)
    assert re.search(r'<p id="lost" role="status" hidden="">', page)


@pytest.mark.parametrize(
    "path", ["/images/images/app", "/graph?around=images/app", "/cascades", "/images/nobody"]
)
def test_each_page_loads_without_a_complaint(store: Store, tmp_path: Path, path: str) -> None:
    service = Changing()
    assert service.chain is not None
    service.chain.apply(Paused(project=_NAME, at=NOW, by="<b>anna", reason="</script>"))

    row = BuildRow(id="7", source="images/app", status="failed", cause="<i>", cascade="c", started_at=NOW)
    write_builds(store, row)
    with serving(store, service) as url:
        page, complaints = look(f"{url}{path}", tmp_path)
    is_missing = path == "/images/nobody"
    assert [line for line in complaints if "404" not in line or not is_missing] == []
    assert "images/app" in page or is_missing


def test_a_page_that_said_what_was_wrong_becomes_what_it_should_be(store: Store, tmp_path: Path) -> None:
    class Beginning(Changing):
        async def known(self) -> Known | None:
            known = await super().known()
            return known if self.asked > 1 else None

    with serving(store, Beginning()) as url:
        page, complaints = look(f"{url}/", tmp_path)
    assert all("503" in line for line in complaints)
    assert "Nothing is known yet" not in page
    assert "images/leaf" in page


def test_a_service_that_goes_away_is_told_beside_what_was_known(store: Store, tmp_path: Path) -> None:
    class Leaving(Changing):
        async def known(self) -> Known | None:
            known = await super().known()
            return known if self.asked == 1 else None

    with serving(store, Leaving()) as url:
        page, complaints = look(f"{url}/", tmp_path)
    assert all("503" in line for line in complaints)
    assert "This page is not current: The groups are being read." in page
    assert "images/leaf" in page
