"""Every setting reaches podman, and nothing secret does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.emulator import response, variable
from imagechain.executor import containers
from imagechain.executor import job as jobs
from imagechain.executor.processes import Process
from imagechain.executor.settings import Limits, Settings
from imagechain.executor.state import JobState

_STATE = JobState("4711-x", Process(1, 1), 0.0, network="net", builds_volume="b", cache_volume="c")
_LIMITS = Limits(cpus=1.5, memory_bytes=1 << 30, pids=9, shm_bytes=1 << 20, nofile=8, nproc=7)


def _runs(settings: Settings, *, protected: bool = False, state: JobState = _STATE) -> containers.Runs:
    git = response()["git_info"] | {"protected": protected}
    return containers.Runs(jobs.parse(response(git_info=git)), settings, state, "/jobs/x", "ours=1")


def _build(settings: Settings, **more: Any) -> list[str]:
    return _runs(settings, **more).build("id", [], ["sh"], "", {})


def _service(settings: Settings, **more: Any) -> list[str]:
    return _runs(settings, **more).service(
        0, "id", aliases=["db"], entrypoint=None, command=["serve"], user="", variables={}
    )


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"read_only": True}, ["--read-only"]),
        ({"volumes": ("/a:/b:ro",)}, ["--volume=/a:/b:ro"]),
        ({"devices": ("/dev/kvm",)}, ["--device=/dev/kvm"]),
        ({"tmpfs": ("/run:size=1m",)}, ["--tmpfs=/run:size=1m"]),
        ({"cap_add": ("NET_ADMIN",), "cap_drop": ("all",)}, ["--cap-add=NET_ADMIN", "--cap-drop=all"]),
        ({"seccomp": "/p.json"}, ["--security-opt=seccomp=/p.json"]),
        ({"no_new_privileges": True}, ["--security-opt=no-new-privileges"]),
        ({"dns": ("9.9.9.9",), "dns_search": ("x.example",)}, ["--dns=9.9.9.9", "--dns-search=x.example"]),
        ({"extra_hosts": ("a:1.2.3.4",)}, ["--add-host=a:1.2.3.4"]),
        ({"init": True}, ["--init"]),
        ({"extra_args": ("--cpuset-cpus=0",)}, ["--cpuset-cpus=0"]),
        ({"runtime": "runc"}, ["--runtime=runc"]),
        ({"userns": "keep-id"}, ["--userns=keep-id"]),
        ({"limits": _LIMITS}, ["--cpus=1.5", "--memory=1073741824b", "--memory-swap=1073741824b"]),
        ({"limits": _LIMITS}, ["--pids-limit=9", "--shm-size=1048576b", "--ulimit=nofile=8:8"]),
        ({"limits": _LIMITS}, ["--ulimit=nproc=7:7"]),
        ({}, ["--pull=never", "--timeout=1200", "--network=net", "--network-alias=build", "--label=ours=1"]),
    ],
)
def test_a_setting_reaches_the_container_of_the_job(changes: dict[str, Any], options: list[str]) -> None:
    plain = _build(Settings("/s", init=False))
    arguments = _build(Settings("/s", **changes))
    for option in options:
        assert option in arguments
        assert not changes or option not in plain


def test_services_have_limits_of_their_own() -> None:
    settings = Settings(
        "/s", limits=_LIMITS, service_limits=Limits(pids=5), service_extra_args=("--oom-score-adj=500",)
    )
    assert "--pids-limit=9" in _build(settings)
    assert "--pids-limit=5" in _service(settings)
    assert "--oom-score-adj=500" in _service(settings)
    assert "--oom-score-adj=500" not in _build(settings)
    assert not any(option.startswith("--memory") for option in _service(settings))


@pytest.mark.parametrize(
    ("settings", "protected", "build", "service"),
    [
        (Settings("/s"), True, False, False),
        (Settings("/s", privileged=True), False, True, False),
        (Settings("/s", services_privileged=True), False, False, True),
        (Settings("/s", privileged=True, privileged_protected_only=True), False, False, False),
        (Settings("/s", privileged=True, privileged_protected_only=True), True, True, False),
    ],
)
def test_privileges_only_where_a_setting_says_so(
    settings: Settings, protected: bool, build: bool, service: bool
) -> None:
    assert ("--privileged" in _build(settings, protected=protected)) is build
    assert ("--privileged" in _service(settings, protected=protected)) is service
    assert "--privileged" not in _runs(settings, protected=protected).helper(["id"], ["sh"])


def test_two_containers_that_share_volumes_share_their_range_of_user_ids() -> None:
    settings = Settings("/s", userns="auto")
    assert "--userns=auto" in _runs(settings).helper(["id"], ["sh"])
    assert "--userns=container:imagechain-4711-b84e2e8d-helper" in _build(settings)
    assert "--volume=b:/builds:U" in _build(settings)


def test_a_network_of_the_settings_is_used_instead_of_the_jobs_own() -> None:
    state = _STATE._replace(network="")
    arguments = _build(Settings("/s", network="none", dns=("9.9.9.9",)), state=state)
    assert "--network=none" in arguments
    assert not any(option.startswith(("--dns", "--network-alias")) for option in arguments)
    assert "--network=shared" in _build(Settings("/s", network="shared"), state=state)


def test_the_runners_program_is_mounted_into_the_helper_only() -> None:
    mount = "--volume=/usr/bin/gitlab-runner:/usr/local/bin/gitlab-runner:ro"
    assert _runs(Settings("/s")).helper_image("id") == [mount, "id"]
    assert mount not in _build(Settings("/s"))
    assert _runs(Settings("/s", runner_binary="")).helper_image("id") == ["id"]


@given(value=st.text())
def test_a_variable_that_is_not_public_is_in_no_argument(value: str) -> None:
    hidden = variable("HIDDEN", f"hidden-{value}".replace("\0", ""), public=False)
    job = jobs.parse(response(variables=[hidden, variable("A", "${HIDDEN}")]))
    assert not any("hidden-" in text for text in job.public_variables.values())
