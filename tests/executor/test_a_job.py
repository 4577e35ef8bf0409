from executor.emulator import Runner, bash, response


def test_a_job_runs_through_all_stages_and_leaves_nothing(runner: Runner) -> None:
    played = runner.play(
        response(),
        {
            "prepare_script": bash("echo on $(hostname)"),
            "get_sources": bash("echo content > file"),
            "build_script": bash("cat file; echo hello"),
            "after_script": bash("echo after"),
        },
    )
    assert (played.status, played.attempts) == ("success", 1), played.log
    assert "content\nhello\nafter\n" in played.log
    assert runner.machine.listing("ps", "--all") == []
