"""The image's entrypoint runs once, and what it exports is there for the scripts."""

from pathlib import Path

import pytest

from executor.conftest import write_settings
from executor.emulator import Runner, bash, response, variable
from executor.machine import Machine

_ENTRYPOINT = """#!/bin/sh
echo run >> /tmp/runs
export FROM_ENTRYPOINT="it's \\"quoted\\" and
two lines"
export SEEN="$PUBLIC"
sleep 1234 &
exec "$@"
"""


def _image(machine: Machine) -> str:
    return machine.make_image(
        "localhost/entry",
        files={"entry.sh": _ENTRYPOINT},
        changes=['ENTRYPOINT ["/entry.sh"]', "ENV IMAGE_ENV=here"],
    )


_LOOK = bash('cat /tmp/runs; echo "$FROM_ENTRYPOINT|$SEEN|$IMAGE_ENV"; ps | grep -c "sleep 123[4]"')


def test_it_runs_once_and_its_exports_and_daemons_are_there_for_every_script(
    machine: Machine, runner: Runner
) -> None:
    played = runner.play(
        response(image={"name": _image(machine)}, variables=[variable("PUBLIC", "seen")]),
        {"build_script": _LOOK, "after_script": _LOOK},
    )
    assert played.status == "success", played.log
    assert played.log.count('run\nit\'s "quoted" and\ntwo lines|seen|here\n1\n') == 2, played.log


def test_the_jobs_own_entrypoint_replaces_it_and_an_empty_one_clears_it(
    machine: Machine, runner: Runner
) -> None:
    image = {"name": _image(machine), "entrypoint": ["/bin/env", "FROM_ENTRYPOINT=other"]}
    played = runner.play(response(image=image), {"build_script": bash("echo [$FROM_ENTRYPOINT]")})
    assert "[other]\n" in played.log
    image["entrypoint"] = [""]
    played = runner.play(response(image=image), {"build_script": bash("echo [$FROM_ENTRYPOINT]")})
    assert "[]\n" in played.log


def test_a_setting_bypasses_it(machine: Machine, tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "e.toml", machine, "run_entrypoint = false\n")
    played = Runner(machine, settings).play(
        response(image={"name": _image(machine)}), {"build_script": bash("test ! -e /tmp/runs")}
    )
    assert played.status == "success", played.log


def test_one_that_never_starts_the_shell_is_a_build_failure_with_its_words(
    machine: Machine, tmp_path: Path
) -> None:
    machine.make_image(
        "localhost/stuck",
        files={"entry.sh": "#!/bin/sh\necho I wait for nobody\nsleep 99\n"},
        changes=['ENTRYPOINT ["/entry.sh"]'],
    )
    settings = write_settings(tmp_path / "e.toml", machine, 'ready_timeout = "1s"\n')
    played = Runner(machine, settings).play(response(image={"name": "localhost/stuck"}), {})
    assert (played.reason, played.attempts) == ("script_failure", 1)
    assert "the entrypoint ['/entry.sh'] of the image localhost/stuck:latest" in played.log
    assert "I wait for nobody" in played.log


def test_an_image_that_runs_as_a_user_can_write_the_builds(machine: Machine, runner: Runner) -> None:
    machine.make_image("localhost/somebody", changes=["USER 1000:1000"])
    played = runner.play(
        response(image={"name": "localhost/somebody"}),
        {
            "get_sources": bash("echo source > file; mkdir folder"),
            "build_script": bash("id -u; echo more >> file; touch folder/new; cat file"),
        },
    )
    assert played.status == "success", played.log
    assert "1000\nsource\nmore\n" in played.log


def test_a_job_may_ask_for_a_user_unless_the_settings_name_one(machine: Machine, tmp_path: Path) -> None:
    image = {"name": "localhost/shell", "executor_opts": {"docker": {"user": "somebody"}}}
    script = {"build_script": bash("id -u")}
    settings = write_settings(tmp_path / "e.toml", machine, 'allowed_users = ["somebody"]\n')
    assert "1000\n" in Runner(machine, settings).play(response(image=image), script).log
    settings = write_settings(tmp_path / "e.toml", machine, 'allowed_users = ["root"]\n')
    played = Runner(machine, settings).play(response(image=image), script)
    assert played.reason == "script_failure"
    assert "this runner allows: root" in played.log
    settings = write_settings(tmp_path / "e.toml", machine, 'user = "0"\n')
    assert "0\n" in Runner(machine, settings).play(response(image=image), script).log


def test_a_script_of_2_mb_and_names_with_quotes_run(runner: Runner) -> None:
    long = "x" * 2_000_000
    played = runner.play(
        response(
            job_info=response()["job_info"] | {"name": "a 'b' \"c\" $(d)", "project_name": "x y"},
            variables=[variable("QUOTED", 'it\'s "here" $(echo bad)', raw=True), variable("NOT A NAME", "x")],
        ),
        {"build_script": bash(f'text={long}; echo ${{#text}}; echo "$QUOTED"')},
    )
    assert played.status == "success", played.log[-500:]
    assert '2000000\nit\'s "here" $(echo bad)\n' in played.log


def test_a_large_variable_is_left_out_of_the_containers_environment_and_set_by_the_script(
    machine: Machine, runner: Runner
) -> None:
    # Beyond 128 KiB the runner itself could not start the executor; the emulator could not either.
    large = "x" * 120_000
    played = runner.play(
        response(variables=[variable("LARGE", large), variable("SMALL", "y")]),
        {
            "build_script": bash(
                "cat /proc/1/environ | tr '\\0' '\\n' | cut -c -9 | grep -E 'LARGE|SMALL'; echo ${#LARGE}",
                variables={"LARGE": large},
            )
        },
    )
    assert played.status == "success", played.log[-500:]
    assert "SMALL=y\n120000\n" in played.log
    assert "LARGE=x" not in played.log
    with pytest.raises(OSError, match="Argument list too long"):
        runner.play(response(variables=[variable("LARGE", large * 2)]), {})


def test_output_and_errors_keep_their_order(runner: Runner) -> None:
    loop = "for i in $(seq 1 200); do echo out $i; echo err $i >&2; done"
    played = runner.play(response(), {"build_script": bash(loop)})
    lines = [line for line in played.log.splitlines() if line.startswith(("out", "err"))]
    assert lines == [f"{kind} {number}" for number in range(1, 201) for kind in ("out", "err")]


def test_what_scripts_leave_behind_does_not_end_the_container_when_it_ends(runner: Runner) -> None:
    orphans = "for i in $(seq 1 30); do (sleep 0.1 & ); done; sleep 0.5"
    played = runner.play(response(), {"build_script": bash(orphans), "after_script": bash("echo after")})
    assert "after\n" in played.log, played.log
    assert "started again" not in played.log


def test_a_setting_keeps_it_whatever_the_job_asks_for(machine: Machine, tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "e.toml", machine, "entrypoint_overwrite = false\n")
    played = Runner(machine, settings).play(
        response(image={"name": _image(machine), "entrypoint": [""]}), {"build_script": _LOOK}
    )
    assert "two lines" in played.log
    assert (
        "warning: this runner keeps the entrypoint of the image 'localhost/entry', not the job's"
        in played.log
    )
