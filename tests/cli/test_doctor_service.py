"""`imagechain doctor` for a service: each fault is found by name, with what to do, whatever else is down."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import stamina
import structlog

from imagechain.cli.doctor_gitlab import judge_clock, judge_hooks, judge_roles, judge_token
from imagechain.cli.main import run
from imagechain.gitlab import rest
from imagechain.gitlab.client import Client, Patience
from imagechain.gitlab.values import Token
from imagechain.service.ports import Hook, ImageUnchecked
from imagechain.service.registry_images import RegistryImages
from imagechain.testing import Role
from service.program import free_port, gitlab_with_projects, service, wait_for_sources, write_settings


@pytest.fixture(autouse=True)
def own_process() -> Iterator[None]:
    """`doctor` sets the log up for its process: here, for one test. No registry is asked again and again."""
    with stamina.set_testing(True):
        yield
    structlog.reset_defaults()


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, list[Any]]]:
    """Run it; give the exit code, and the findings by their subject."""
    capsys.readouterr()
    code = run(["doctor", *arguments, "--format", "json"])
    found: dict[str, list[Any]] = {}
    for finding in json.loads(capsys.readouterr().out)["findings"]:
        found.setdefault(finding["subject"], []).append(finding)
    return code, found


def results(found: Sequence[Any]) -> list[str]:
    return [finding["result"] for finding in found]


def test_with_a_running_service_all_is_well_but_the_registry_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with gitlab_with_projects() as (gitlab, url, _):
        bot = gitlab.add_user("maintainer")
        gitlab.add_group("images", members={bot: Role.MAINTAINER})
        token = gitlab.add_token(bot, scopes=("api", "read_registry"), expires_at=time.time() + 86_400 * 90)
        config = write_settings(tmp_path, url, token.value, port)
        with service(config, port):
            wait_for_sources(capsys, f"http://127.0.0.1:{port}", 2)
            for _ in range(100):
                code, found = doctor(capsys, "--config", str(config))
                if results(found["webhooks"]) == ["ok"]:
                    break
        assert code == 1
        wrong = {subject for subject, several in found.items() if "error" in results(several)}
        assert wrong == {"registry 127.0.0.1:1"}
        assert "Maintainer in all 2 projects" in found["group images"][0]["text"]
        assert results(found["token"]) == ["ok", "ok"]
        assert results(found["clock"]) == results(found["store"]) == results(found["server.url"]) == ["ok"]

        # The service is gone, and all else is found out as before.
        code, found = doctor(capsys, "--config", str(config))
        assert code == 1
        assert "is `imagechain serve` running there?" in found["service"][0]["text"]
        assert results(found["server.url"]) == ["warning"]
        assert results(found["webhooks"]) == results(found["store"]) == ["ok"]


def test_what_a_token_lacks_is_told_with_what_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gitlab_with_projects() as (gitlab, url, _):
        bot = gitlab.add_user("reporter")
        gitlab.add_group("images", members={bot: Role.REPORTER})
        token = gitlab.add_token(bot, scopes=("read_api",)).value
        code, found = doctor(capsys, "--config", str(write_settings(tmp_path, url, token, free_port())))
    assert code == 1
    assert "without `api` no pipeline can be started" in found["token"][0]["text"]
    assert found["group images"][0]["text"] == (
        "no Developer in 2 of 2 projects (images/app, images/base): their pipelines cannot be started"
    )
    assert found["group images"][0]["remedy"] == "make the token's user a Maintainer of the group"


def test_a_token_that_gitlab_refuses_is_told_and_the_rest_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gitlab_with_projects() as (_, url, _):
        config = write_settings(tmp_path, url, "not-a-token", free_port())
        code, found = doctor(capsys, "--config", str(config))
    assert code == 1
    assert results(found["gitlab"]) == ["error"]
    assert "token" in found["gitlab"][0]["text"]
    assert results(found["store"]) == ["ok"]
    assert not list(tmp_path.glob("imagechain.db*")), "doctor made something"


def test_a_registry_that_hangs_does_not_hold_doctor_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_self: RegistryImages, _reference: str) -> ImageUnchecked:
        await asyncio.sleep(60)
        raise AssertionError("it was waited for")

    monkeypatch.setattr(RegistryImages, "read", hang)
    monkeypatch.setattr("imagechain.cli.doctor_gitlab._REGISTRY_SECONDS_MAX", 0.1)
    with gitlab_with_projects() as (_, url, token):
        _, found = doctor(capsys, "--config", str(write_settings(tmp_path, url, token, free_port())))
    assert [finding["text"] for finding in found["registry 127.0.0.1:1"]] == [
        "it did not answer within 0 s; is it down or overloaded?"
    ]


def test_a_gitlab_that_hangs_does_not_hold_doctor_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = Patience(attempts_max=1, silent_attempts_max=1, answer_seconds_max=0.3, probe_seconds_max=0.1)
    monkeypatch.setattr("imagechain.gitlab.client.IMPATIENT", impatient)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        code, found = doctor(capsys, "--config", str(write_settings(tmp_path, url, "a-token", free_port())))
    assert time.monotonic() < began + 10
    assert code == 1
    assert "did not answer within 0 s (ReadTimeout); is it down or overloaded?" in found["gitlab"][0]["text"]
    assert results(found["store"]) == ["ok"]


def test_without_gitlab_the_store_and_the_settings_are_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_settings(tmp_path, "http://127.0.0.1:1", "a-token", free_port())
    (tmp_path / "hook-key").write_text("short")
    (tmp_path / "imagechain.db").write_bytes(b"no database" * 1_000)
    code, found = doctor(capsys, "--config", str(config))
    assert code == 1
    assert results(found["gitlab"]) == results(found["store"]) == ["error"]
    assert "server.hook_key_file" in found["settings"][0]["text"]


def test_wrong_settings_are_all_that_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "imagechain.toml"
    config.write_text("[gitlab]\nurll = 1\n")
    code, found = doctor(capsys, "--config", str(config))
    assert (code, list(found)) == (1, ["settings"])
    assert "did you mean 'url'?" in found["settings"][0]["text"]


def test_webhooks_that_gitlab_disabled_or_nobody_installed_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gitlab_with_projects() as (_, url, token):
        config = write_settings(tmp_path, url, token, free_port())
        _, found = doctor(capsys, "--config", str(config))
        assert "2 of 2 are not installed: images/app, images/base" in found["webhooks"][0]["text"]
        assert run(["sync", "--config", str(config)]) == 0
        _, found = doctor(capsys, "--config", str(config))
        assert results(found["webhooks"]) == ["ok"]


def test_a_service_alone_can_be_asked_by_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys, "--server", "http://127.0.0.1:1")
    assert (code, list(found)) == (1, ["service"])


# --- judgements -----------------------------------------------------------------------------------------


def judged(scopes: tuple[str, ...], expires_at: date | None) -> list[tuple[str, str]]:
    token = Token(id=1, scopes=scopes, expires_at=expires_at)
    return [(finding.result, finding.text) for finding in judge_token(token, date(2026, 11, 21))]


def test_a_token_is_judged_by_its_scopes_and_its_end() -> None:
    assert judged(("api", "read_registry"), None) == [("ok", "scopes api, read_registry")]
    assert [result for result, _ in judged(("api",), date(2027, 11, 20))] == ["warning", "ok"]
    assert [result for result, _ in judged(("read_api",), None)] == ["error"]
    assert judged(("api", "read_registry"), date(2026, 11, 30))[1] == (
        "warning",
        "it expires on 2026-11-30, in 9 days",
    )


def test_the_lowest_role_that_is_missing_is_told() -> None:
    projects = [f"images/{number}" for number in range(8)]
    finding = judge_roles("images", projects, {"Developer": set(), "Maintainer": set(projects[1:])})
    assert finding.result == "error"
    assert finding.text == (
        "no Maintainer in 7 of 8 projects (images/1, images/2, images/3, images/4, images/5 and 2 more): "
        "their webhooks cannot be kept"
    )
    assert judge_roles("images", projects, {"Developer": set()}).result == "ok"
    assert judge_roles("images", [], {"Developer": set()}).result == "warning"


def test_disabled_webhooks_are_worse_than_missing_ones() -> None:
    def hook(status: str) -> list[Hook]:
        return [Hook(id=1, url="https://x", events=frozenset(), alert_status=status)]

    assert judge_hooks("webhooks", {"a": hook("executable"), "b": []}).result == "warning"
    finding = judge_hooks("webhooks", {"a": hook("disabled"), "b": []})
    assert (finding.result, finding.text) == ("error", "GitLab disabled 1 after failures: a")
    assert judge_hooks("webhooks", {"a": hook("executable"), "b": hook("")}).result == "ok"


def test_a_clock_that_is_wrong_is_told() -> None:
    async def ahead() -> float | None:
        def answer(_: httpx2.Request) -> httpx2.Response:
            headers = {"Date": "Sat, 21 Nov 2026 12:00:00 GMT"}
            return httpx2.Response(200, json={"version": "19.0.0"}, headers=headers)

        noon = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
        transport = httpx2.MockTransport(answer)
        async with Client("http://x", lambda: "t", transport=transport, now=lambda: noon - 3_600) as client:
            assert client.clock_ahead_seconds is None
            await client.send(rest.version())
            return client.clock_ahead_seconds

    assert asyncio.run(ahead()) == 3_600
    finding = judge_clock(3_600)
    assert (finding.result, "3600 s ahead" in finding.text) == ("error", True)
    assert [judge_clock(seconds).result for seconds in (-250, -60, 5, None)] == [
        "error",
        "warning",
        "ok",
        "ok",
    ]
