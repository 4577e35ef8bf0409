"""`install`: write what GitLab Runner and systemd need to know about the executor, and nothing of theirs.

A runner that is registered already gets its keys in the runner's `config.toml` (`runner_config.py`); for one
that is yet to be, `gitlab-runner register` merges the template. An existing `executor.toml` is kept.
"""

import argparse
import difflib
import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from imagechain.executor.arguments import DEFAULT_SETTINGS
from imagechain.executor.containers import BUILDS_DIR, CACHE_DIR
from imagechain.executor.errors import SystemFailureError
from imagechain.executor.log import say
from imagechain.executor.runner_config import RefusedError, edit

RUNNER_CONFIG = "/etc/gitlab-runner/config.toml"
TEMPLATE = "/etc/gitlab-runner/imagechain-executor.template.toml"
_UNITS = "/etc/systemd/system"
_FAILED = 1
_DOCTOR_SECONDS_MAX = 120

_SETTINGS_TEXT = """\
# Settings of imagechain's executor; every key is explained in docs/executor.md.

# For jobs without `image:`.
image = ""
# Git, caches and artifacts run in this image, with the runner's own program mounted into it. Without one
# they run with the git of this machine.
helper_image = "{helper_image}"
runner_binary = "/usr/bin/gitlab-runner"
# Empty: any image of a registry.
allowed_images = []
allowed_services = []
# The first is the default, the others a job may ask for.
pull_policy = ["always", "if-not-present"]

[limits]
# cpus = 2.0
# memory = "4GiB"
pids = 4096

[cache]
size_max = "50GiB"
age_max = "30d"
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
            "user": self._user_lines(),
        }
        texts = {
            self.settings: _SETTINGS_TEXT,
            f"{_UNITS}/gitlab-runner.service.d/imagechain-executor.conf": _DROP_IN_TEXT,
            f"{_UNITS}/imagechain-executor-gc.service": _GC_SERVICE_TEXT,
            f"{_UNITS}/imagechain-executor-gc.timer": _GC_TIMER_TEXT,
        }
        return {path: text.format(**words) for path, text in texts.items()} | {TEMPLATE: self.template()}

    @property
    def runner_keys(self) -> dict[str, Any]:
        """The runner's own keys in its `config.toml`."""
        return {"executor": "custom", "builds_dir": BUILDS_DIR, "cache_dir": CACHE_DIR}

    @property
    def custom_keys(self) -> dict[str, Any]:
        """The keys of the runner's table `custom`."""
        return {
            "config_exec": self.program,
            "config_args": ["config", "--settings", self.settings],
            "prepare_exec": self.program,
            "prepare_args": ["prepare", "--settings", self.settings],
            "run_exec": self.program,
            "run_args": ["run"],
            "cleanup_exec": self.program,
            "cleanup_args": ["cleanup"],
            "cleanup_exec_timeout": 300,
            # The runner stops waiting for a cancelled script after 300 s and cleans up beside it.
            "graceful_kill_timeout": 60,
            "force_kill_timeout": 10,
        }

    def template(self) -> str:
        """Return both as a file for `gitlab-runner register --template-config`."""
        lines = [
            "[[runners]]",
            *(f"  {key} = {json.dumps(value)}" for key, value in self.runner_keys.items()),
            "  [runners.custom]",
            *(f"    {key} = {json.dumps(value)}" for key, value in self.custom_keys.items()),
        ]
        return "\n".join(lines) + "\n"

    def _user_lines(self) -> str:
        if not self.user:
            return ""
        return f"User={self.user}\nEnvironment=XDG_RUNTIME_DIR=/run/user/{self.uid}\n"


def main(arguments: list[str]) -> int:
    """Write the files, say what a person has to do next, and what is missing."""
    parser = argparse.ArgumentParser(
        prog="imagechain-executor install", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--settings", default=DEFAULT_SETTINGS, help="the settings file, kept if it exists")
    parser.add_argument("--user", default="", help="the user that GitLab Runner runs as (default: root)")
    parser.add_argument("--program", default=str(Path(sys.argv[0]).resolve()), help="the executor's path")
    parser.add_argument("--helper-image", default="", help="an image with git")
    parser.add_argument("--runner-config", default=RUNNER_CONFIG, help="the runner's config.toml")
    parser.add_argument("--runner", default="", help="the name of the runner in it, if there are several")
    parser.add_argument("--root", default="/", help="write below this folder, for packages")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be written")
    chosen = parser.parse_args(arguments)
    plan = Plan(chosen.program, chosen.settings, chosen.user, _uid(chosen.user), chosen.helper_image)
    root = Path(chosen.root)
    for path, text in plan.files().items():
        target = root / path.lstrip("/")
        if chosen.dry_run:
            print(f"# {target}\n{text}")
        elif path == plan.settings and target.exists():
            say(f"kept {target}")
        else:
            _write(target, text)
    is_done = _configure(root / chosen.runner_config.lstrip("/"), chosen.runner, plan, dry_run=chosen.dry_run)
    if chosen.dry_run:
        return 0 if is_done else _FAILED
    say(
        "next: systemctl daemon-reload; systemctl enable --now imagechain-executor-gc.timer;"
        + (f" loginctl enable-linger {plan.user};" if plan.user else "")
        # The runner's package gives its folder to root.
        + (f" chown -R {plan.user} {Path(chosen.runner_config).parent};" if plan.user else "")
        + " systemctl restart gitlab-runner"
    )
    if chosen.root == "/":
        say("what `imagechain-executor doctor` finds:")
        _run_doctor(plan, chosen.runner_config)
    return 0 if is_done else _FAILED


def _configure(path: Path, runner: str, plan: Plan, *, dry_run: bool) -> bool:
    """Make a registered runner use the executor; return whether nothing is left to be done by hand."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        say(
            f"{path} does not exist yet; register a runner with"
            f" `gitlab-runner register --executor custom --template-config {TEMPLATE}`"
        )
        return True
    except (OSError, UnicodeDecodeError) as error:
        raise SystemFailureError(f"cannot read {path}: {error}; run this as root") from error
    try:
        edited = edit(text, runner, plan.runner_keys, plan.custom_keys)
    except RefusedError as error:
        say(f"left {path} as it is: {error}. What has to be there:")
        print(plan.template())
        return False
    if edited == text:
        say(f"kept {path}")
    elif dry_run:
        # Without lines around the changes: they could hold the runner's token.
        changes = difflib.unified_diff(
            text.splitlines(), edited.splitlines(), str(path), str(path), n=0, lineterm=""
        )
        print("\n".join(changes))
    else:
        _replace(path.resolve(), edited)
    return True


def _replace(path: Path, text: str) -> None:
    """Write a file anew with its owner and mode, after a copy of it was kept."""
    backup = path.with_name(f"{path.name}.before-imagechain")
    new = path.with_name(f"{path.name}.new")
    try:
        status = path.stat()
        for target, content in ((backup, path.read_text()), (new, text)):
            target.unlink(missing_ok=True)
            # Both hold the runner's token.
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as file:
                file.write(content)
            shutil.copymode(path, target)
            os.chown(target, status.st_uid, status.st_gid)
        new.replace(path)
    except OSError as error:
        raise SystemFailureError(f"cannot write {path}: {error.strerror}; run this as root") from error
    say(f"wrote {path}; {backup} is as it was before")


def _run_doctor(plan: Plan, runner_config: str) -> None:
    """Let the doctor look at everything with the eyes of the runner's user."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/root"}
    if plan.user:
        environment |= {
            "HOME": pwd.getpwnam(plan.user).pw_dir,
            "XDG_RUNTIME_DIR": f"/run/user/{plan.uid}",
            "USER": plan.user,
        }
    try:
        subprocess.run(
            [plan.program, "doctor", f"--settings={plan.settings}", f"--runner-config={runner_config}"],
            env=environment,
            cwd="/",
            user=plan.uid or None,
            group=pwd.getpwnam(plan.user).pw_gid if plan.user else None,
            extra_groups=[] if plan.user else None,
            check=False,
            timeout=_DOCTOR_SECONDS_MAX,
        )
    except PermissionError:
        raise SystemFailureError(
            f"{plan.user or 'root'} may not run {plan.program}, and so the runner cannot; install imagechain"
            " where every user may, such as /opt, and run this again with its --program"
        ) from None
    except subprocess.TimeoutExpired:
        raise SystemFailureError(f"the doctor did not end within {_DOCTOR_SECONDS_MAX} s") from None


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
