"""The tables of the service: spans of time, addresses, and what the loop is given."""

from pathlib import Path

import pytest

from imagechain.chain import BUILD_KINDS
from imagechain.config import ConfigError, Settings, load_settings
from imagechain.service.loop import service_settings


def settings_of(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "imagechain.toml"
    file.write_text(text)
    return load_settings(file, {})


def test_the_policy_is_read_with_its_units(tmp_path: Path) -> None:
    text = """
    [policy]
    quiet = "90s"
    reconcile = "1h"
    retry = ["0s", "2m"]
    hold_max = "1d"
    windows = ["* 22-23 * * *"]
    ci_images = true
    """
    told = service_settings(settings_of(tmp_path, text))
    assert told.policy.quiet_seconds == 90
    assert told.policy.retry_seconds == (0, 120)
    assert told.policy.hold_max_seconds == 86_400
    assert told.reconcile_seconds == 3_600
    assert told.kinds == BUILD_KINDS | {"ci-image", "ci-service"}


def test_without_settings_the_policy_is_the_designs(tmp_path: Path) -> None:
    policy = service_settings(settings_of(tmp_path, "")).policy
    assert (policy.quiet_seconds, policy.hold_max_seconds, policy.builds_max) == (300, None, 8)
    assert policy.retry_seconds == (0, 60, 300, 1_800, 7_200)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[policy]\nquiet = "5"', "span of time"),
        ('[policy]\nhold_max = "long"', "span of time"),
        ('[policy]\nwindows = ["at night"]', "no cron expression"),
        ("[policy]\nbuilds_max = 0", "builds_max must be more than 0"),
        ('[server]\nlisten = "8080"', "no address"),
        ('[server]\nurl = "imagechain.example.com"', "no address"),
        ("[server]\nport = 1", "unknown setting 'server.port'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        settings_of(tmp_path, text)


FILES = """
[gitlab]
token_file = "gitlab-token"
ca_file = "/etc/ssl/ours.pem"
[server]
hook_key_file = "secrets/hook-key"
[registry."registry.example.com"]
auth_file = "auth.json"
"""


def test_relative_files_lie_beside_the_settings_file_wherever_the_program_is_started(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, FILES)
    assert settings.gitlab.token_file == str(tmp_path / "gitlab-token")
    assert settings.gitlab.ca_file == "/etc/ssl/ours.pem"
    assert settings.server.hook_key_file == str(tmp_path / "secrets/hook-key")
    assert settings.server.api_token_file == ""
    assert settings.registry["registry.example.com"].auth_file == str(tmp_path / "auth.json")


def test_a_systemd_credential_of_that_name_comes_first(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "gitlab-token").write_text("x")
    file = tmp_path / "imagechain.toml"
    file.write_text(FILES)
    settings = load_settings(file, {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert settings.gitlab.token_file == "gitlab-token"
    assert settings.server.hook_key_file == str(tmp_path / "secrets/hook-key")
