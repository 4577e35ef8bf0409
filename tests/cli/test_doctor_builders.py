"""What `doctor` says of builders and of other architectures."""

from pathlib import Path

import pytest

from imagechain.cli.doctor_builders import examine_architectures, examine_builders


def test_builders_that_are_not_there_are_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = examine_builders()
    assert finding.result == "error"
    assert "usable: none; not buildah: buildah is not installed" in finding.text
    program = tmp_path / "podman"
    program.write_text("#!/bin/sh\necho --help of something old\n")
    program.chmod(0o755)
    assert "not podman: this podman is too old" in next(examine_builders()).text


@pytest.mark.parametrize(
    ("handlers", "said"),
    [
        ({}, "not mounted"),
        ({"status": "enabled\n"}, "no qemu is registered"),
        (
            {"status": "enabled\n", "qemu-aarch64": "enabled\ninterpreter /usr/bin/x\nflags: F\n"},
            "by qemu for aarch64",
        ),
        ({"status": "enabled\n", "qemu-aarch64": "enabled\ninterpreter /usr/bin/x\nflags: \n"}, "no qemu"),
        ({"status": "enabled\n", "qemu-s390x": "disabled\ninterpreter x\nflags: F\n"}, "no qemu"),
        ({"status": "enabled\n", "python3.11": "enabled\nflags: F\n"}, "no qemu"),
    ],
)
def test_other_architectures_are_those_that_the_kernel_hands_to_qemu(
    tmp_path: Path, handlers: dict[str, str], said: str
) -> None:
    for name, text in handlers.items():
        (tmp_path / name).write_text(text)
    finding = examine_architectures(tmp_path)
    assert said in finding.text
    assert bool(finding.remedy) == ("by qemu" not in finding.text)
