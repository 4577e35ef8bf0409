"""`doctor`: check this machine and the settings before a job does, and say how to mend each finding."""

import argparse
import json
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from imagechain.executor import host_helper, podman, pull, references, settings
from imagechain.executor.arguments import DEFAULT_SETTINGS
from imagechain.executor.errors import ExecutorError
from imagechain.executor.settings import Settings

PODMAN_MIN = (4, 0)
#: Older versions of aardvark-dns answer wrongly now and then.
AARDVARK_MIN = (1, 11)
#: The runner stops waiting for a cancelled script then.
GRACEFUL_KILL_SECONDS_MAX = 300
_FAILED = 1
#: Where podman looks for the init of containers, by default.
_CATATONITS = (
    "/usr/libexec/podman/catatonit",
    "/usr/local/libexec/podman/catatonit",
    "/usr/local/lib/podman/catatonit",
    "/usr/lib/podman/catatonit",
    "/usr/bin/catatonit",
)


class Finding(NamedTuple):
    """One thing that was checked."""

    level: str
    about: str
    #: What is wrong and how to mend it, or what was found.
    text: str


def main(arguments: list[str]) -> int:
    """Print all findings; return 1 if one of them is an error."""
    parser = argparse.ArgumentParser(
        prog="imagechain-executor doctor", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--settings", default=DEFAULT_SETTINGS)
    parser.add_argument("--runner-config", default="/etc/gitlab-runner/config.toml")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    chosen = parser.parse_args(arguments)
    findings = list(examine(chosen.settings, chosen.runner_config))
    if chosen.format == "json":
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.level:7} {finding.about}: {finding.text}")
    return _FAILED if any(finding.level == "error" for finding in findings) else 0


def examine(settings_path: str, runner_config: str) -> Iterator[Finding]:
    """Check everything; what needs something that is missing is left out."""
    chosen = None
    try:
        chosen = settings.load(settings_path).base
        yield Finding("ok", "settings", settings_path)
    except ExecutorError as error:
        yield Finding("error", "settings", str(error))
    try:
        info = json.loads(podman.check("info", "--format=json"))
    except (ExecutorError, ValueError) as error:
        yield Finding("error", "podman", str(error))
        info = None
    if info is not None:
        yield from _podman(info)
        if not settings.is_root():
            yield from _rootless(info)
    if chosen is not None:
        yield from _settings(chosen)
    if info is not None and chosen is not None:
        yield from _helper(chosen)
    yield from _runner(runner_config)
    yield from _units()


def _podman(info: dict[str, Any]) -> Iterator[Finding]:
    version = str(info.get("version", {}).get("Version", ""))
    if _numbers(version) < PODMAN_MIN:
        yield Finding("error", "podman", f"version {version} is too old; install 4.0 or newer")
    else:
        yield Finding("ok", "podman", f"version {version}")
    driver = str(info.get("store", {}).get("graphDriverName", ""))
    if driver == "vfs":
        yield Finding(
            "warning", "storage", 'the driver vfs copies whole images; set driver = "overlay" in storage.conf'
        )
    aardvark = str(info.get("host", {}).get("networkBackendInfo", {}).get("dns", {}).get("version", ""))
    if not aardvark:
        for folder in ("/usr/lib/podman", "/usr/libexec/podman"):
            program = shutil.which("aardvark-dns", path=folder)
            aardvark = _version_of(program) if program else aardvark
    if not aardvark:
        yield Finding(
            "error", "names", "aardvark-dns is missing, so that services have no names; install aardvark-dns"
        )
    elif _numbers(aardvark) < AARDVARK_MIN:
        yield Finding(
            "warning", "names", f"{aardvark} now and then fails to resolve names; 1.11 or newer is better"
        )


def _rootless(info: dict[str, Any]) -> Iterator[Finding]:
    host = info.get("host", {})
    user = _user_name()
    for path in ("/etc/subuid", "/etc/subgid"):
        if not _has_range(path, user, str(os.geteuid())):
            yield Finding(
                "error",
                "user ids",
                f"{path} has no range for {user}, so images with more than one user fail;"
                f" add one with `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`",
            )
    if host.get("cgroupVersion") == "v1":
        yield Finding(
            "warning",
            "limits",
            "without root, control groups of version 1 take no limits; boot with version 2",
        )
    if not shutil.which("pasta") and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        yield Finding(
            "error", "network", "/dev/net/tun cannot be opened and there is no pasta: jobs have no network;"
            " `chmod 0666 /dev/net/tun`, or install passt (podman 4.4 or newer)"
        )  # fmt: skip
    linger = Path("/var/lib/systemd/linger") / user
    if Path("/run/systemd/system").is_dir() and not linger.exists():
        yield Finding(
            "error", "linger", f"containers end when {user} logs out; run `loginctl enable-linger {user}`"
        )


def _settings(chosen: Settings) -> Iterator[Finding]:
    state_dir = Path(chosen.state_dir)
    existing = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "error", "state_dir", f"{state_dir} cannot be written by {_user_name()}; change its owner"
        )
    if chosen.userns == "auto" and not all(
        _has_range(path, "containers") for path in ("/etc/subuid", "/etc/subgid")
    ):
        yield Finding(
            "error", "userns", 'userns = "auto" needs a line such as `containers:2147483647:2147483648` in'
            " /etc/subuid and /etc/subgid"
        )  # fmt: skip
    if chosen.userns == "keep-id" and settings.is_root():
        yield Finding("error", "userns", "keep-id exists only without root")
    if chosen.userns == "keep-id":
        yield Finding("warning", "userns", "keep-id gives every job the runner's own user id on this machine")
    if chosen.privileged and not chosen.privileged_protected_only and settings.is_root():
        yield Finding(
            "warning",
            "privileged",
            "any job can be root here; set privileged_protected_only",
        )
    if "if-not-present" in chosen.pull_policy and not chosen.allowed_images:
        yield Finding(
            "warning", "pull_policy", "if-not-present lets a job use a private image that another job pulled;"
            ' set allowed_images, or pull_policy = ["always"]'
        )  # fmt: skip
    if chosen.init and not any(map(os.path.exists, _CATATONITS)):
        yield Finding("error", "init", "catatonit is missing; install it, or set init = false")
    if chosen.runner_binary and not os.access(chosen.runner_binary, os.X_OK):
        yield Finding(
            "error",
            "runner_binary",
            f"{chosen.runner_binary} cannot be run: there are no caches",
        )


def _helper(chosen: Settings) -> Iterator[Finding]:
    if not chosen.helper_image:
        lacking = host_helper.missing()
        if chosen.userns == "auto":
            yield Finding("error", "helper_image", 'is not set, and userns = "auto" needs one')
        elif lacking:
            yield Finding(
                "error", "helper_image", f"is not set, and this machine lacks {lacking}; install it"
            )
        else:
            yield Finding("ok", "helper_image", "is not set: git runs with this machine's programs")
        return
    reference = references.parse(chosen.helper_image)
    if reference is not None and pull.inspect(reference.whole) is None:
        level = "error" if reference.is_local else "warning"
        yield Finding(level, "helper_image", f"{reference.whole} is not on this machine yet")


def _runner(config: str) -> Iterator[Finding]:
    import tomllib  # noqa: PLC0415

    try:
        table = tomllib.loads(Path(config).read_text())
    except FileNotFoundError:
        yield Finding("warning", "runner", f"{config} does not exist; register a runner")
        return
    except (OSError, ValueError) as error:
        yield Finding("warning", "runner", f"cannot read {config}: {error}")
        return
    ours = [
        custom
        for entry in table.get("runners", [])
        if entry.get("executor") == "custom"
        and "imagechain" in str((custom := entry.get("custom", {})).get("run_exec", ""))
    ]
    if not ours:
        yield Finding("warning", "runner", f"no runner in {config} uses this executor")
    for custom in ours:
        missing = [name for name in ("config", "prepare", "cleanup") if not custom.get(f"{name}_exec")]
        if missing:
            lines = ", ".join(f"{name}_exec" for name in missing)
            yield Finding("error", "runner", f"[runners.custom] in {config} lacks {lines}")
        if not 0 < custom.get("graceful_kill_timeout", 0) < GRACEFUL_KILL_SECONDS_MAX:
            yield Finding(
                "warning", "runner", f"graceful_kill_timeout in {config} should be below"
                f" {GRACEFUL_KILL_SECONDS_MAX} s; after that the runner cleans up beside a running script"
            )  # fmt: skip


def _units() -> Iterator[Finding]:
    if not Path("/run/systemd/system").is_dir():
        return
    kill_mode = _systemctl("show", "--property=KillMode", "--value", "gitlab-runner.service")
    if kill_mode and kill_mode not in {"mixed", "process"}:
        yield Finding(
            "error", "systemd", f"gitlab-runner.service has KillMode={kill_mode}: a restart kills the stages"
            " of jobs before they can clean up; use KillMode=mixed"
        )  # fmt: skip
    if _systemctl("is-enabled", "imagechain-executor-gc.timer") != "enabled":
        yield Finding(
            "warning", "systemd", "nothing removes old caches; run"
            " `systemctl enable --now imagechain-executor-gc.timer`"
        )  # fmt: skip


def _systemctl(*arguments: str) -> str:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip()


def _version_of(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip()


def _numbers(version: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _has_range(path: str, *owners: str) -> bool:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return False
    return any(line.split(":")[0] in owners for line in lines if line.count(":") == 2)
