"""`docs/service.md` speaks of settings, files and metrics that there are."""

import re
import time
import tomllib
from pathlib import Path

import httpx2
import msgspec
from starlette.routing import Route

from imagechain.config import load_settings
from imagechain.store import open_store
from imagechain.web import make_app
from service.program import free_port, gitlab_with_projects, service, write_settings
from web.parts import API_TOKEN, HOOK_KEY, FakeService

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs/service.md").read_text()
ALERTS = (TOP / "packaging/service/alerts.yml").read_text()
#: What pipelines are told, which is no metric.
INPUTS = {"imagechain_cause", "imagechain_intent", "imagechain_inputs"}


def test_the_settings_of_the_page_are_right(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    tables: set[str] = set()
    for block in blocks:
        (tmp_path / "imagechain.toml").write_text(block)
        load_settings(tmp_path / "imagechain.toml", {})
        tables |= tomllib.loads(block).keys()
    assert tables == {"gitlab", "policy", "server", "store"}


def test_the_files_of_the_page_are_there() -> None:
    named = set(re.findall(r"packaging/[\w/.-]+[\w/]", PAGE))
    assert len(named) >= 4
    assert not [name for name in named if "*" not in name and not list(TOP.glob(f"{name}*"))]


def test_the_service_has_each_metric_that_the_page_and_the_alerts_name(tmp_path: Path) -> None:
    port = free_port()
    with gitlab_with_projects() as (_, url, token):
        config = write_settings(tmp_path, url, token, port)
        with service(config, port):
            page = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    there = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    named = set(re.findall(r"imagechain_[a-z_]+", PAGE + ALERTS)) - INPUTS
    # Only where GitLab tells it.
    assert named - there <= {"imagechain_gitlab_requests_remaining"}
    assert len(named) > 5


def test_the_page_tells_of_each_page_of_the_dashboard(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/imagechain.db")
    app = make_app(store, FakeService(), hook_key=HOOK_KEY, api_token=API_TOKEN)
    store.close()
    pages = {
        route.path.replace("{id:path}", "ID")
        for route in app.routes
        if isinstance(route, Route) and not re.match("/(hooks|static|healthz|metrics)", route.path)
    }
    named = set(re.findall(r"^\| `(/[\w/]*)` \|", PAGE, re.MULTILINE))
    assert pages == named
    assert len(pages) == 4


def test_the_program_shows_these_pages_and_which_registry_it_cannot_read(tmp_path: Path) -> None:
    port = free_port()
    with gitlab_with_projects() as (_, url, token):
        config = write_settings(tmp_path, url, token, port)
        with (
            service(config, port),
            httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        ):
            for _ in range(200):
                first = client.get("/")
                if "cannot be read" in first.text:
                    break
                time.sleep(0.05)
            pages = {
                path: client.get(path)
                for path in ("/images/images/app", "/graph?around=images/app", "/cascades")
            }
    assert {page.status_code for page in (first, *pages.values())} == {200}
    assert "/images/images/base" in first.text
    assert "of 127.0.0.1:1 cannot be read" in first.text
    assert "images/base, unknown" in pages["/graph?around=images/app"].text


def test_alerts_are_yaml_with_an_expression_and_a_text_each() -> None:
    rules = [rule for group in msgspec.yaml.decode(ALERTS.encode())["groups"] for rule in group["rules"]]
    assert rules
    assert all(rule["alert"] and rule["expr"] and rule["annotations"]["summary"] for rule in rules)


def test_the_page_installs_the_uv_that_the_checkout_wants() -> None:
    wanted = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["uv"]["required-version"]
    assert f"pip install uv{wanted}\n" in PAGE
