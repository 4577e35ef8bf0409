"""A GitLab that refuses the service as a whole: where that is told, and for how long."""

import asyncio
import time
from pathlib import Path

import httpx2
import pytest

from imagechain.cli.main import run
from service.program import (
    SECRET,
    ask,
    free_port,
    gitlab_with_projects,
    service,
    wait_for_sources,
    write_settings,
)
from service.test_bad_input import eventually
from service.whole import Whole, store_at, until


def test_a_scan_that_gitlab_refuses_is_told_until_it_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.service.loop._RETRY_SECONDS", 0.1)

    async def main() -> None:
        whole = Whole(store_at(tmp_path))
        whole.add("base", "debian:bookworm")
        token = whole.gitlab.state.tokens[whole.token]
        token.scopes = ("read_registry",)
        async with whole.serving() as service:
            await eventually(lambda: bool(service.gitlab_trouble))
            assert "the projects of the group images: GitLab answers 401" in service.gitlab_trouble
            assert await service.known() is None
            token.scopes = ("api",)
            await until(service, lambda shown: len(shown) == 2)
            await eventually(lambda: not service.gitlab_trouble)

    asyncio.run(main())


def test_a_token_that_expires_is_told_by_the_running_service_until_there_is_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    server = f"http://127.0.0.1:{port}"

    def notices() -> list[str]:
        told: list[str] = ask(capsys, "status", "--server", server)["notices"]
        # The registry of this GitLab is not there.
        return [notice for notice in told if notice.startswith("GitLab")]

    def reconcile_until(is_told: bool) -> list[str]:
        headers = {"Authorization": f"Bearer {SECRET}"}
        httpx2.post(f"{server}/api/v1/reconcile", headers=headers, trust_env=False).raise_for_status()
        for _ in range(600):
            if bool(told := notices()) == is_told:
                return told
            time.sleep(0.05)
        raise AssertionError(f"it tells {told}")

    with gitlab_with_projects() as (gitlab, url, token):
        config = write_settings(tmp_path, url, token, port)
        with service(config, port):
            wait_for_sources(capsys, server, 2)
            assert reconcile_until(is_told=False) == []
            gitlab.state.tokens[token].expires_at = 1.0
            (notice,) = reconcile_until(is_told=True)
            assert "the token is wrong, expired or revoked" in notice
            assert token not in notice
            assert "imagechain_gitlab_up 0.0" in httpx2.get(f"{server}/metrics", trust_env=False).text
            assert httpx2.get(f"{server}/healthz", trust_env=False).status_code == 200
            capsys.readouterr()
            assert run(["doctor", "--server", server]) == 1
            assert "GitLab does not answer it, or refuses what it asks" in capsys.readouterr().out
            new = gitlab.add_token(gitlab.state.users[gitlab.state.tokens[token].user]).value
            (tmp_path / "gitlab-token").write_text(new)
            assert reconcile_until(is_told=False) == []
