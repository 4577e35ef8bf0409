"""The settings, as one typed tree, a module for each table: TOML, then `IMAGECHAIN_*` variables on top."""

from imagechain.config.bots import BotSettings, DeploymentSettings
from imagechain.config.chain import ChainSettings
from imagechain.config.hosts import HostHooks, HostNotify, HostSettings
from imagechain.config.image import ImageRegistrySettings, ImageSettings
from imagechain.config.mirror import MirrorSettings
from imagechain.config.pipeline import PipelineSettings
from imagechain.config.policy import PolicySettings
from imagechain.config.registry import RegistrySettings
from imagechain.config.secrets import SECRET_BYTES_MAX, read_secret, secret_path
from imagechain.config.service import BRANCHES_MAX, GitLabSettings, ServerSettings, StoreSettings
from imagechain.config.settings import FILE_BYTES_MAX, FILE_NAME, Settings, load_settings
from imagechain.config.state import state_folder
from imagechain.config.values import ConfigError, Duration
from imagechain.config.vetting import (
    VettingExceptionSettings,
    VettingMatchSettings,
    VettingPolicySettings,
    VettingSettings,
)

__all__ = [
    "BRANCHES_MAX",
    "FILE_BYTES_MAX",
    "FILE_NAME",
    "SECRET_BYTES_MAX",
    "BotSettings",
    "ChainSettings",
    "ConfigError",
    "DeploymentSettings",
    "Duration",
    "GitLabSettings",
    "HostHooks",
    "HostNotify",
    "HostSettings",
    "ImageRegistrySettings",
    "ImageSettings",
    "MirrorSettings",
    "PipelineSettings",
    "PolicySettings",
    "RegistrySettings",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "VettingExceptionSettings",
    "VettingMatchSettings",
    "VettingPolicySettings",
    "VettingSettings",
    "load_settings",
    "read_secret",
    "secret_path",
    "state_folder",
]
