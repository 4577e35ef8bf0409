"""Connects projects by what their Containerfiles, CI configurations and `.gitlab-deps` name."""

from collections.abc import Mapping, Sequence

from imagechain.chain.values import Dependency, Problem
from imagechain.ciconfig import CiImage, CiInclude
from imagechain.discovery import declared
from imagechain.discovery.ci import CiConfigs
from imagechain.discovery.edges import Edges
from imagechain.discovery.names import folder_of, join
from imagechain.discovery.reading import Located, Reading
from imagechain.discovery.values import LocalProject
from imagechain.discovery.walk import Tree, UnreadableError, read_file
from imagechain.refs import ReferenceError


def connect_images(edges: Edges, child: str, readings: Mapping[str, Sequence[Reading]]) -> None:
    """Add what the Containerfiles of a project name; `readings` are those of all projects."""
    for reading in readings[child]:
        bases: dict[str, bool] = {}
        for found in reading.dependencies:
            one = found.dependency
            # What an ONBUILD names is read by the children, not by the file itself.
            needed = one.needed and one.kind != "onbuild"
            parent = _add(edges, child, found, onbuild=one.kind == "onbuild", needed=needed)
            if one.kind == "from" and parent in readings:
                bases[parent] = bases.get(parent, False) or needed
        for base, needed in bases.items():
            for found in (trigger for one in readings[base] for trigger in one.triggers):
                # A trigger may name a stage of the child in which it runs.
                if found.dependency.written.lower() not in reading.stage_names:
                    _add(edges, child, found, onbuild=True, needed=needed)


def _add(edges: Edges, child: str, found: Located, *, onbuild: bool, needed: bool) -> str:
    """Add a dependency on an image, if it is one; gives the id of its source, or nothing."""
    one = found.dependency
    if one.image is None:  # a stage of the file, or the empty base
        return ""
    kind = "onbuild" if onbuild else one.kind
    image, parent = one.image, None
    if kind != "syntax":  # which is pulled, but is no ingredient
        image, parent = edges.resolve(image, one.written, found.file, found.line)
    edges.dependencies.append(
        Dependency(
            child=child,
            parent=parent,
            kind=kind,
            file=found.file,
            line=found.line,
            image=image,
            needed=needed,
        )
    )
    return parent or ""


def connect_ci(edges: Edges, projects: Mapping[str, LocalProject], configs: CiConfigs) -> None:
    """Add what the CI configurations name, to the projects that they speak of."""
    owners = configs.owners({project.id: project.context for project in projects.values()})
    for folder, config in configs.configs.items():

        def children(file: str, folder: str = folder) -> list[str]:
            nearest = configs.nearest(folder_of(file)) or folder
            return owners.get(nearest) or owners.get(folder, [])

        for image in config.images:
            connect_ci_image(edges, children(join(folder, image.job_file)), image, join(folder, image.file))
        for include in config.includes:
            file = join(folder, include.file)
            for child in children(file):
                edges.dependencies.append(
                    Dependency(
                        child=child,
                        parent=edges.add_external(_include_name(include)),
                        kind="ci-include",
                        file=file,
                        line=include.line,
                        image=None,
                    )
                )


def connect_ci_image(edges: Edges, children: Sequence[str], image: CiImage, file: str) -> None:
    """Add the image that a CI job runs in to the projects that it builds."""
    if not children:
        return
    if not image.resolved:
        message = f"the image {image.pattern} is left out: it has variables whose values only GitLab knows"
        edges.problems.append(Problem(file=file, line=image.line, message=message))
        return
    try:
        reference, parent = edges.resolve(image.pattern, image.pattern, file, image.line)
    except ReferenceError as error:
        edges.problems.append(Problem(file=file, line=image.line, message=str(error)))
        return
    edges.dependencies += (
        Dependency(child=child, parent=parent, kind=image.kind, file=file, line=image.line, image=reference)
        for child in children
    )


def _include_name(include: CiInclude) -> str:
    """Name the source of an included file, as people write it: `group/ci@v1:/build.yml`."""
    ref = f"@{include.ref}" if include.ref else ""
    path = f":/{include.path}" if include.path else ""
    return f"{include.location}{ref}{path}"


def connect_declared(
    edges: Edges, root: str, tree: Tree, projects: Mapping[str, LocalProject], top_name: str
) -> None:
    """Add what `.gitlab-deps` files declare; some say that it is the whole list."""
    names = declared.ProjectNames(projects, top_name)
    by_context: dict[str, list[str]] = {}
    for project in projects.values():
        by_context.setdefault(project.context, []).append(project.id)
    only: set[str] = set()
    found: list[Dependency] = []
    for folder, file_names in tree.files.items():
        if declared.FILE_NAME not in file_names:
            continue
        file = join(folder, declared.FILE_NAME)
        children = by_context.get(folder, [])
        if not children:
            message = (
                "no Containerfile stands beside it, so nobody has these dependencies; move it beside one"
            )
            edges.problems.append(Problem(file=file, line=None, message=message))
            continue
        try:
            declaration = declared.parse_declaration(read_file(root, file).decode(errors="replace"))
        except UnreadableError as error:
            edges.problems.append(Problem(file=file, line=None, message=str(error)))
            continue
        if declaration.only:
            only.update(children)
        for entry in declaration.projects:
            parent = names.find(entry.path, file, entry.line)
            if isinstance(parent, Problem):
                edges.problems.append(parent)
                continue
            found += (
                Dependency(
                    child=child, parent=parent, kind="declared", file=file, line=entry.line, image=None
                )
                for child in children
            )
    edges.dependencies = [one for one in edges.dependencies if one.child not in only] + found
