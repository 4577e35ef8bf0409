"""From files to projects: each Containerfile gets its id, unique in the tree."""

import msgspec

from imagechain.chain.values import Problem
from imagechain.config import FILE_NAME as SETTINGS_FILE_NAME
from imagechain.discovery.names import ContainerfileName, FileNames, context_of, join
from imagechain.discovery.walk import Tree

#: Examples that a problem about many files names.
EXAMPLES_MAX = 3


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A Containerfile before it is read."""

    id: str
    file: str
    folder: str
    context: str
    name: str
    preprocessed: bool


def find_candidates(tree: Tree, file_names: FileNames, problems: list[Problem]) -> list[Candidate]:
    """Give each Containerfile its id, in the order of ids."""
    candidates: dict[str, Candidate] = {}
    templates: list[str] = []
    for folder, names in tree.files.items():
        read: list[tuple[str, ContainerfileName]] = []
        for file_name in names:
            name = file_names.read(folder, file_name)
            if name is not None and name.template:
                templates.append(join(folder, file_name))
            elif name is not None:
                read.append((file_name, name))
        # Of two files with one NAME the Containerfile has it, the other is called by its whole file name.
        read.sort(key=lambda entry: ("containerfile" not in entry[0].lower(), entry[0]))
        for file_name, name in read:
            candidate = _candidate(folder, file_name, name)
            if (other := candidates.get(candidate.id)) is not None:
                candidate = _candidate(folder, file_name, msgspec.structs.replace(name, name=file_name))
                outcome = f"so this is {candidate.id!r}"
                if candidate.id in candidates:
                    outcome = "so this is not read"
                message = f"{other.file} is already {other.id!r}, {outcome}; rename one of them"
                problems.append(Problem(file=candidate.file, line=None, message=message))
            candidates.setdefault(candidate.id, candidate)
        if folder != "." and SETTINGS_FILE_NAME in names:
            message = "only the settings of the top folder are read; scan this folder by itself to use these"
            problems.append(Problem(file=join(folder, SETTINGS_FILE_NAME), line=None, message=message))
    if templates:
        examples = ", ".join(sorted(templates)[:EXAMPLES_MAX])
        message = (
            f"{len(templates)} files are templates by their names, and are not read ({examples}); "
            f"scan what they are made into, or add a pattern to `files` in [chain] of {SETTINGS_FILE_NAME}"
        )
        problems.append(Problem(file=min(templates), line=None, message=message))
    return [candidates[key] for key in sorted(candidates)]


def _candidate(folder: str, file_name: str, name: ContainerfileName) -> Candidate:
    return Candidate(
        id=f"{folder}:{name.name}" if name.name else folder,
        file=join(folder, file_name),
        folder=folder,
        context=context_of(folder, name),
        name=name.name,
        preprocessed=name.preprocessed,
    )
