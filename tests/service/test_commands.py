"""`imagechain serve` as a program of its own, and the commands that talk to it."""

import json
import signal
import socket
import time
from pathlib import Path

import msgspec
import pytest

from imagechain.cli.main import run
from imagechain.testing import Role
from imagechain.testing.hooks import FAILURES_FOR_GOOD, FAILURES_MAX
from service.program import (
    SECRET,
    ask,
    free_port,
    gitlab_with_projects,
    service,
    wait_for_sources,
    wait_until,
    write_settings,
)


def test_serve_installs_webhooks_answers_the_commands_and_stops_at_a_signal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with gitlab_with_projects() as (gitlab, url, token):
        config = write_settings(tmp_path, url, token, port)
        with service(config, port) as process:
            server = f"http://127.0.0.1:{port}"
            shown = wait_for_sources(capsys, server, 2)
            assert {one["id"] for one in shown} == {"images/base", "images/app"}
            assert ask(capsys, "explain", "images/app", "--server", server)["status"]["id"] == "images/app"
            assert ask(capsys, "plan", "--server", server) == {"builds": []}
            token_file = ("--api-token-file", str(tmp_path / "api-token"))
            assert ask(
                capsys, "pause", "images/base", "--reason", "freeze", "--server", server, *token_file
            ) == {"ids": ["images/base"], "notes": []}
            assert run(["resume", "nobody", "--server", server, *token_file]) == 2
            assert "nobody" in capsys.readouterr().err
            (tmp_path / "wrong").write_text("another secret, long enough")
            assert run(["retry", "--server", server, "--api-token-file", str(tmp_path / "wrong")]) == 2
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        assert run(["status", "--server", server]) == 3
        assert "no service answers" in capsys.readouterr().err
        # Another process did it: the hooks are in GitLab, one for each project.
        assert sorted(hook.url for hook in gitlab.state.hooks.values()) == [f"{server}/hooks/gitlab"] * 2


def test_sync_installs_repairs_and_enables_webhooks_without_a_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gitlab_with_projects() as (gitlab, url, token):
        config = write_settings(tmp_path, url, token, free_port())
        first = ask(capsys, "sync", "--config", str(config))
        assert (first["projects"], len(first["hooks"]["created"])) == (2, 2)
        assert ask(capsys, "sync", "--config", str(config))["hooks"] == {
            "created": [],
            "repaired": [],
            "enabled": [],
            "removed": [],
            "refused": [],
            "failed": [],
        }
        hook = next(iter(gitlab.state.hooks.values()))
        hook.events = frozenset({"push_events"})
        assert ask(capsys, "sync", "--config", str(config))["hooks"]["repaired"] == [hook.project]


@pytest.mark.parametrize(
    ("failures", "standing"),
    [(FAILURES_MAX + 1, "temporarily_disabled"), (FAILURES_FOR_GOOD, "disabled")],
)
def test_sync_enables_a_webhook_that_gitlab_disabled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], failures: int, standing: str
) -> None:
    port = free_port()
    with gitlab_with_projects() as (gitlab, url, token):
        config = write_settings(tmp_path, url, token, port)
        # The service answers the test by which it is enabled.
        with service(config, port):
            wait_until(lambda: len(gitlab.state.hooks) == 2)
            hook = next(iter(gitlab.state.hooks.values()))
            hook.recent_failures, hook.disabled_until = failures, time.time() + 3_600
            assert gitlab.hooks.alert_status(hook) == standing
            assert ask(capsys, "sync", "--config", str(config))["hooks"]["enabled"] == [hook.project]
            assert gitlab.hooks.alert_status(hook) == "executable"


def test_what_cannot_be_kept_is_told_beside_the_listing_and_not_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gitlab_with_projects() as (gitlab, url, _):
        bot = gitlab.add_user("a-developer")
        gitlab.add_group("images", members={bot: Role.DEVELOPER})
        config = write_settings(tmp_path, url, gitlab.add_token(bot).value, free_port())
        assert run(["sync", "--config", str(config), "--format", "json"]) == 1
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["hooks"]["refused"]) == 2
    assert "a webhook cannot be kept" in captured.err


def test_sync_says_who_is_at_fault_when_gitlab_refuses_or_is_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gitlab_with_projects() as (_, url, _token):
        assert run(["sync", "--config", str(write_settings(tmp_path, url, "not-a-token", free_port()))]) == 2
    assert "put a new one into the file that gitlab.token_file names" in capsys.readouterr().err
    assert run(["sync", "--config", str(tmp_path / "imagechain.toml")]) == 3
    assert "check gitlab.url and the network" in capsys.readouterr().err


def test_sync_removes_webhooks_of_projects_that_left_or_were_archived(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gitlab_with_projects() as (gitlab, url, token):
        config = write_settings(tmp_path, url, token, free_port())
        ask(capsys, "sync", "--config", str(config))
        base, app = gitlab.project("images/base"), gitlab.project("images/app")
        other = gitlab.add_hook(base, "https://chat.example.com")
        base.archived = True
        assert ask(capsys, "sync", "--config", str(config))["hooks"]["removed"] == [base.id]
        assert {(hook.project, hook.url == other.url) for hook in gitlab.state.hooks.values()} == {
            (app.id, False),
            (base.id, True),
        }


def test_sync_removes_nothing_when_the_groups_show_no_project_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gitlab_with_projects() as (gitlab, url, token):
        config = write_settings(tmp_path, url, token, free_port())
        ask(capsys, "sync", "--config", str(config))
        config.write_text(config.read_text().replace("[server]", 'include = ["image/*"]\n[server]'))
        assert run(["sync", "--config", str(config)]) == 2
        assert "GitLab shows no project at all in images; check gitlab.groups, gitlab.include" in (
            capsys.readouterr().err
        )
        assert len(gitlab.state.hooks) == 2


def test_sync_gives_a_group_one_webhook_where_the_edition_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gitlab_with_projects(enterprise=True) as (gitlab, url, token):
        config = write_settings(tmp_path, url, token, free_port())
        assert ask(capsys, "sync", "--config", str(config))["hooks"]["created"] == ["images"]
        assert [hook.url.partition("/hooks")[2] for hook in gitlab.state.hooks.values()] == [
            "/gitlab/groups/images"
        ]
        gitlab.state.settings = msgspec.structs.replace(gitlab.state.settings, enterprise=False)
        assert len(ask(capsys, "sync", "--config", str(config))["hooks"]["created"]) == 2


@pytest.mark.parametrize("command", ["serve", "sync"])
def test_without_a_group_nothing_is_done_least_of_all_to_webhooks(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gitlab_with_projects() as (gitlab, url, token), socket.create_server(("127.0.0.1", 0)) as taken:
        # `serve` would end at the port that is taken, and not go on for ever.
        config = write_settings(tmp_path, url, token, taken.getsockname()[1])
        ask(capsys, "sync", "--config", str(config))
        hooks = dict(gitlab.state.hooks)
        text = config.read_text()
        for groups in ("groups = []", ""):
            config.write_text(text.replace('groups = ["images"]', groups))
            assert run([command, "--config", str(config)]) == 2
            assert "gitlab.groups is empty: name the groups" in capsys.readouterr().err
        assert len(hooks) == 2
        assert gitlab.state.hooks == hooks


def test_serve_says_which_secret_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text(SECRET)
    config = tmp_path / "imagechain.toml"
    config.write_text(
        f'[gitlab]\nurl = "http://127.0.0.1:1"\ngroups = ["a"]\ntoken_file = "{tmp_path}/token"\n'
    )
    assert run(["serve", "--config", str(config)]) == 2
    assert "server.hook_key_file is not set" in capsys.readouterr().err


def test_serve_says_whose_setting_it_is_when_a_port_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gitlab_with_projects() as (_, url, token), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", "--config", str(write_settings(tmp_path, url, token, port))]) == 2
    assert (
        f"server.listen: 127.0.0.1:{port} cannot be listened on: Address already" in capsys.readouterr().err
    )


@pytest.mark.parametrize("arguments", [["rebuild"], ["rebuild", "x", "--all-stale"]])
def test_rebuild_wants_one_project_or_all_that_are_stale(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert "--all-stale" in capsys.readouterr().err


def test_a_subtree_is_of_one_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pause", "--subtree"]) == 2
    assert "name it; or leave --subtree out" in capsys.readouterr().err


def test_a_command_tells_what_it_does_and_what_it_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with gitlab_with_projects() as (_, url, token), service(write_settings(tmp_path, url, token, port), port):
        server = ("--server", f"http://127.0.0.1:{port}")
        wait_for_sources(capsys, server[1], 2)
        there = (*server, "--api-token-file", str(tmp_path / "api-token"))
        assert run(["retry", "images/app", *there]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "retry: nothing to do",
            "Note: images/app did not fail, so nothing is done; `imagechain rebuild` builds it in any case.",
        ]
        assert ask(capsys, "pause", "images/app", "--reason", "freeze", *there)["ids"] == ["images/app"]
        shown = "a person paused images/app (freeze)"
        for _ in range(200):
            if shown in ask(capsys, "explain", "images/app", *server)["text"]:
                break
            time.sleep(0.02)
        assert run(["resume", *there]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "resume: nothing to do",
            "Note: no pause of everything is known.",
            f"Note: images/app is paused still: `imagechain resume images/app` ends what {shown}.",
        ]
