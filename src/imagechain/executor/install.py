"""`install`: write what GitLab Runner and systemd need to know about the executor, and nothing of theirs.

The runner's own `config.toml` holds its token and is never touched: `gitlab-runner register` merges the
template that is written here. An existing `executor.toml` is kept.
"""

import argparse
import pwd
import sys
from pathlib import Path
from typing import NamedTuple

from imagechain.executor.arguments import DEFAULT_SETTINGS
from imagechain.executor.containers import BUILDS_DIR, CACHE_DIR
from imagechain.executor.errors import SystemFailureError
from imagechain.executor.log import say

TEMPLATE = "/etc/gitlab-runner/imagechain-executor.template.toml"
_UNITS = "/etc/systemd/system"

_SETTINGS_TEXT = """\
# Settings of imagechain's executor; every key is explained in docs/executor.md.

# For jobs without `image:`.
image = ""
# Git, caches and artifacts run in this image, with the runner's own program mounted into it.
helper_image = "{helper_image}"
runner_binary = "/usr/bin/gitlab-runner"
# Empty: any image of a registry.
allowed_images = []
allowed_services = []
# The first is the default, the others a job may ask for.
pull_policy = ["if-not-present", "always"]

[limits]
# cpus = 2.0
# memory = "4GiB"
pids = 4096

[cache]
size_max = "50GiB"
age_max = "30d"
"""

_TEMPLATE_TEXT = """\
[[runners]]
  executor = "custom"
  builds_dir = "{builds_dir}"
  cache_dir = "{cache_dir}"
  [runners.custom]
    config_exec = "{program}"
    config_args = ["config", "--settings", "{settings}"]
    prepare_exec = "{program}"
    prepare_args = ["prepare", "--settings", "{settings}"]
    run_exec = "{program}"
    run_args = ["run"]
    cleanup_exec = "{program}"
    cleanup_args = ["cleanup"]
    cleanup_exec_timeout = 300
    # The runner stops waiting for a cancelled script after 300 s and cleans up beside it.
    graceful_kill_timeout = 60
    force_kill_timeout = 10
"""

_DROP_IN_TEXT = """\
[Service]
{user}# Only the runner gets the signal, and ends its jobs in order; what is left then is killed.
KillMode=mixed
TimeoutStopSec=330
# Rootless containers need control groups of their own for limits.
Delegate=yes
"""

_GC_SERVICE_TEXT = """\
[Unit]
Description=Remove what jobs of imagechain's GitLab Runner executor left, and old caches and images
Documentation=https://docs.gitlab.com/runner/executors/custom/

[Service]
Type=oneshot
{user}ExecStart={program} gc --settings {settings}
# No more confinement than this: podman mounts and enters namespaces, and systemd's system call filters would
# imply NoNewPrivileges for a user, under which newuidmap cannot work.
UMask=0077
Nice=10
IOSchedulingClass=idle
TimeoutStartSec=1h
"""

_GC_TIMER_TEXT = """\
[Unit]
Description=Remove what jobs of imagechain's GitLab Runner executor left, every quarter of an hour

[Timer]
OnBootSec=5min
OnUnitInactiveSec=15min
RandomizedDelaySec=1min

[Install]
WantedBy=timers.target
"""


class Plan(NamedTuple):
    """What is to be installed, for whom and where."""

    #: The executor's own path, as the runner starts it.
    program: str
    settings: str
    #: The runner's user; empty for root.
    user: str
    uid: int
    helper_image: str

    def files(self) -> dict[str, str]:
        """Return all files by their paths."""
        words = {
            "program": self.program,
            "settings": self.settings,
            "helper_image": self.helper_image,
            "builds_dir": BUILDS_DIR,
            "cache_dir": CACHE_DIR,
            "user": self._user_lines(),
        }
        texts = {
            self.settings: _SETTINGS_TEXT,
            TEMPLATE: _TEMPLATE_TEXT,
            f"{_UNITS}/gitlab-runner.service.d/imagechain-executor.conf": _DROP_IN_TEXT,
            f"{_UNITS}/imagechain-executor-gc.service": _GC_SERVICE_TEXT,
            f"{_UNITS}/imagechain-executor-gc.timer": _GC_TIMER_TEXT,
        }
        return {path: text.format(**words) for path, text in texts.items()}

    def _user_lines(self) -> str:
        if not self.user:
            return ""
        return f"User={self.user}\nEnvironment=XDG_RUNTIME_DIR=/run/user/{self.uid}\n"


def main(arguments: list[str]) -> int:
    """Write the files, and say what a person has to do next."""
    parser = argparse.ArgumentParser(
        prog="imagechain-executor install", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--settings", default=DEFAULT_SETTINGS, help="the settings file, kept if it exists")
    parser.add_argument("--user", default="", help="the user that GitLab Runner runs as (default: root)")
    parser.add_argument("--program", default=str(Path(sys.argv[0]).resolve()), help="the executor's path")
    parser.add_argument("--helper-image", default="", help="an image with git")
    parser.add_argument("--root", default="/", help="write below this folder, for packages")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be written")
    chosen = parser.parse_args(arguments)
    plan = Plan(chosen.program, chosen.settings, chosen.user, _uid(chosen.user), chosen.helper_image)
    for path, text in plan.files().items():
        target = Path(chosen.root) / path.lstrip("/")
        if chosen.dry_run:
            print(f"# {target}\n{text}")
        elif path == plan.settings and target.exists():
            say(f"kept {target}")
        else:
            _write(target, text)
    if not chosen.dry_run:
        say(
            "next: systemctl daemon-reload; systemctl enable --now imagechain-executor-gc.timer;"
            + (f" loginctl enable-linger {plan.user};" if plan.user else "")
            + f" gitlab-runner register --executor custom --template-config {TEMPLATE};"
            f" imagechain-executor doctor --settings {plan.settings}"
        )
    return 0


def _uid(user: str) -> int:
    if not user:
        return 0
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise SystemFailureError(
            f"there is no user {user!r}; make it first (`useradd --create-home {user}`),"
            " or name the runner's user"
        ) from None


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise SystemFailureError(f"cannot write {path}: {error.strerror}; run this as root") from error
    say(f"wrote {path}")
