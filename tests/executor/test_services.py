"""Services: found by name, waited for, and no reason to fail."""

import threading
import time
from pathlib import Path

import pytest

from executor.conftest import write_settings
from executor.emulator import Attempt, Played, Runner, bash, response, variable
from executor.machine import Machine

_SERVE = "while :; do echo from $WHO | nc -l -p 4000; done"


def _server(machine: Machine, name: str = "localhost/server", **more: object) -> str:
    changes = ["EXPOSE 4000", 'ENTRYPOINT ["sh", "-c"]', f'CMD ["sleep 0.5; {_SERVE}"]', "ENV WHO=image"]
    return machine.make_image(name, changes=changes)


def test_a_service_is_found_under_all_its_names_with_its_own_variables(
    machine: Machine, runner: Runner
) -> None:
    _server(machine)
    played = runner.play(
        response(
            services=[
                {"name": "localhost/server", "alias": "db,cache", "variables": [variable("WHO", "${A}-one")]},
                {
                    "name": "localhost/shell",
                    "alias": "other",
                    "entrypoint": ["sh"],
                    "command": ["-c", _SERVE],
                    "variables": [variable("HEALTHCHECK_TCP_PORT", "4000"), variable("WHO", "two $SECRET")],
                },
            ],
            variables=[variable("A", "public"), variable("SECRET", "hidden", masked=True)],
        ),
        {
            "build_script": bash(
                "for n in db cache localhost-server other; do nc $n 4000 < /dev/null; sleep 0.1; done"
            )
        },
    )
    assert played.status == "success", played.log
    assert played.log.count("from public-one\n") == 3, played.log
    assert played.log.count("from two\n") == 1
    assert "warning" not in played.log


def test_one_that_dies_or_never_answers_is_a_warning_with_its_log(machine: Machine, tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "e.toml", machine, 'services_timeout = "1s"\n')
    port = [variable("HEALTHCHECK_TCP_PORT", "4000")]
    played = Runner(machine, settings).play(
        response(
            services=[
                {"name": "localhost/shell", "alias": "a", "command": ["sh", "-c", "echo last words; exit 3"],
                 "variables": port},
                {"name": "localhost/shell", "alias": "b", "command": ["sh", "-c", "echo I sleep; sleep 99"],
                 "variables": port},
                {"name": "localhost/shell", "alias": "c", "command": ["sh", "-c", "sleep 99"]},
            ]
        ),
        {"build_script": bash("echo the job goes on")},
    )  # fmt: skip
    assert played.status == "success", played.log
    for said in ("has ended", "last words", "does not listen on port 4000", "I sleep", "exposes no TCP port"):
        assert said in played.log
    assert "the job goes on\n" in played.log


def test_one_that_cannot_start_is_a_warning_and_the_job_goes_on(machine: Machine, runner: Runner) -> None:
    _server(machine)
    port = [variable("HEALTHCHECK_TCP_PORT", "4000")]
    played = runner.play(
        response(
            services=[
                {"name": "localhost/shell", "alias": "a", "entrypoint": ["/no/such"], "variables": port},
                {
                    "name": "localhost/shell",
                    "alias": "b",
                    "command": ["true"],
                    "executor_opts": {"docker": {"user": "nobody-there"}},
                },
                {"name": "localhost/server", "alias": "c"},
            ]
        ),
        {"build_script": bash("nc c 4000 < /dev/null; echo the job goes on")},
    )
    assert played.status == "success", played.log
    assert played.log.count("cannot be started; the job goes on. Podman said:") == 2
    assert "/no/such" in played.log
    assert "unable to find user nobody-there" in played.log
    assert "from image\nthe job goes on\n" in played.log


def test_a_health_check_of_the_image_is_waited_for(machine: Machine, runner: Runner) -> None:
    folder = machine.folder / "health"
    folder.mkdir()
    (folder / "Containerfile").write_text(
        "FROM localhost/shell\nHEALTHCHECK CMD test -e /tmp/healthy\n"
        'CMD ["sh", "-c", "sleep 1; touch /tmp/healthy; while :; do echo up | nc -l -p 4000; done"]\n'
    )
    machine.podman("build", "--quiet", "--format=docker", "--tag=localhost/health", str(folder))
    started = time.monotonic()
    played = runner.play(
        response(services=[{"name": "localhost/health", "alias": "h"}]),
        {"build_script": bash("nc h 4000 < /dev/null")},
    )
    assert played.status == "success", played.log
    assert "up\n" in played.log
    assert "warning" not in played.log
    assert time.monotonic() - started > 1


@pytest.mark.usefixtures("alone")
def test_two_jobs_at_once_cannot_reach_each_other_also_when_a_third_one_ends(
    machine: Machine, runner: Runner
) -> None:
    results: list[Played] = []

    def serve() -> None:
        script = "until test -e stop; do echo leaked | timeout 1 nc -l -p 4001; done || true"
        results.append(runner.play(response(id=1), {"build_script": bash(script)}))

    thread = threading.Thread(target=serve)
    thread.start()
    address = _address_of_build(machine, "-1-")

    def end_another(_: Attempt, stage: str, __: object) -> None:
        if stage == "build_script":
            # Netavark takes the isolation of all networks away when one of them goes.
            runner.play(response(id=3), {"build_script": bash("true")})
            machine.podman("exec", _build_of(machine, "-2-"), "touch", "/tmp/ended")

    knock = f"nc -w 1 {address} 4001 < /dev/null || echo unreachable"
    script = f"{knock}; until test -e /tmp/ended; do sleep 0.1; done; {knock}; {knock}"
    other = runner.play(response(id=2), {"build_script": bash(script)}, during=end_another)
    machine.podman("exec", _build_of(machine, "-1-"), "touch", "/builds/group/app/stop")
    thread.join()
    assert results[0].status == "success"
    assert "leaked" not in other.log
    assert other.log.count("unreachable\n") == 3, other.log


def _build_of(machine: Machine, part: str) -> str:
    names = machine.podman("ps", "--format={{.Names}}").split()
    return next((name for name in names if part in name and name.endswith("-build")), "")


def _address_of_build(machine: Machine, part: str) -> str:
    deadline = time.monotonic() + 60
    while not (name := _build_of(machine, part)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    text = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return machine.podman("inspect", f"--format={text}", name).strip()


def test_what_services_say_is_shown_after_each_script_if_the_job_wants_it(runner: Runner) -> None:
    script = "nc -l -p 4000 & n=0; while sleep 0.1; do n=$((n + 1)); echo line $n; done"
    service: dict[str, object] = {
        "name": "localhost/shell",
        "entrypoint": [""],
        "command": ["sh", "-c", script],
        "variables": [variable("HEALTHCHECK_TCP_PORT", "4000")],
    }
    job = response(services=[service], variables=[variable("CI_DEBUG_SERVICES", "true")])
    played = runner.play(
        job, {"build_script": bash("sleep 1; echo first"), "after_script": bash("sleep 0.5")}
    )
    lines = played.log.partition("first")[2].splitlines()
    shown = [line.split()[-1] for line in lines if "[service" in line]
    assert "[service localhost/shell] line 1" in played.log
    assert shown == [str(number) for number in range(1, len(shown) + 1)]
    assert len(shown) > 10
