"""Fills a simulated GitLab from a folder of projects, and writes commits out for those who build them."""

from collections.abc import Mapping
from pathlib import Path

from imagechain.testing.git import make_file
from imagechain.testing.simulated import SimulatedGitLab
from imagechain.testing.values import Commit, File, Project, SimulationError

#: All files of one project.
PROJECT_BYTES_MAX = 512 * 1024 * 1024


def load_projects(
    gitlab: SimulatedGitLab,
    folder: Path,
    group: str,
    *,
    extra_files: Mapping[str, str] | None = None,
    substitute: Mapping[str, str] | None = None,
) -> list[Project]:
    """Make each folder within a folder a project of a group.

    Args:
        gitlab: where the projects are made.
        folder: its folders become projects, its files are left aside.
        group: the group, which is made if it is missing.
        extra_files: files that each project gets unless it has them, such as a CI configuration.
        substitute: texts to be replaced in all files that are text, such as a registry's name.

    Raises:
        SimulationError: a project is too large.
    """
    projects = []
    for source in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != ".git"):
        files = {path: make_file(text.encode()) for path, text in (extra_files or {}).items()}
        files |= _read_files(source)
        files = {path: _substituted(file, substitute or {}) for path, file in files.items()}
        projects.append(gitlab.add_project(f"{group}/{source.name}", files=files))
    return projects


def _read_files(folder: Path) -> dict[str, File]:
    files: dict[str, File] = {}
    size = 0
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not path.is_file() or path.is_symlink() or ".git" in relative.parts:
            continue
        size += path.stat().st_size
        if size > PROJECT_BYTES_MAX:
            raise SimulationError(
                f"{folder} holds more than {PROJECT_BYTES_MAX} bytes: take a smaller project"
            )
        files[relative.as_posix()] = make_file(
            path.read_bytes(), executable=bool(path.stat().st_mode & 0o100)
        )
    return files


def _substituted(file: File, texts: Mapping[str, str]) -> File:
    content = file.content
    if b"\0" not in content:
        for old, new in texts.items():
            content = content.replace(old.encode(), new.encode())
    return make_file(content, executable=file.executable)


def write_commit(commit: Commit, folder: Path) -> None:
    """Write the files of a commit into a folder, as a checkout does."""
    for path, file in commit.files.items():
        target = folder / path
        if not target.resolve().is_relative_to(folder.resolve()):
            raise SimulationError(f"commit {commit.sha[:8]} holds {path!r}, which leads out of {folder}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(0o755 if file.executable else 0o644)
