"""Reads a CI configuration into images, includes and build arguments.

This part knows GitLab's keywords and nothing of files or networks: `read_local` and `list_local` are the only
way to the repository. Rules: GitLab's documentation of the keywords, and its JSON schema of `.gitlab-ci.yml`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from imagechain.ciconfig.document import Node
from imagechain.ciconfig.include import Includer
from imagechain.ciconfig.inherit import Inheritance, Steps
from imagechain.ciconfig.scripts import BuiltImage, PassedArgument, built_images, passed_arguments
from imagechain.ciconfig.values import CiBuildArguments, CiConfig, CiImage
from imagechain.ciconfig.variables import Scope, Variable, read_matrix, read_variables

#: Deepest nesting of lists in scripts and services; GitLab's own limit.
LIST_DEPTH_MAX = 10

_TOP_LEVEL_KEYWORDS = frozenset({
    "after_script", "before_script", "cache", "default", "image", "include",
    "services", "spec", "stages", "types", "variables", "workflow",
})  # fmt: skip
#: What jobs get from `default:`, or from the top level, unless they say otherwise.
_DEFAULT_KEYWORDS = ("image", "services", "before_script")
_JOB_KEYWORDS = ("image", "services", "before_script", "script", "variables", "parallel", "inherit")


def read_ci_config(
    data: bytes,
    *,
    read_local: Callable[[str], bytes | None],
    list_local: Callable[[], Iterable[str]] = tuple,
    variables: Mapping[str, str] | None = None,
    file: str = ".gitlab-ci.yml",
) -> CiConfig:
    """Read a CI configuration with the local files that it includes.

    Args:
        data: the configuration's text.
        read_local: reads a file of the repository by its path; None where there is none.
        list_local: lists the paths of the repository's files; asked only for an include with wildcards.
        variables: values known from elsewhere (of the project, predefined); they win over the file's own.
        file: the configuration's own path.

    Raises:
        CiConfigError: it is malformed, or exceeds a bound; the error knows file and line.
    """
    steps = Steps()
    given = {name: Variable(value) for name, value in (variables or {}).items()}
    includer = Includer(read_local, list_local, Scope(given), steps)
    configuration = includer.load(data, file)
    entries = configuration.mapping("the configuration")
    inheritance = Inheritance(entries, steps, open_ended=bool(includer.foreign or includer.warnings))
    jobs = _read_jobs(entries, inheritance, given, file)
    return CiConfig(
        images=_images(jobs, steps),
        includes=tuple(includer.foreign),
        build_arguments=_build_arguments([job for job in jobs if job.name] or jobs, steps),
        built=_built(jobs, steps),
        warnings=tuple(includer.warnings),
    )


class _Use(msgspec.Struct, frozen=True):
    """An image or a service of a job, as written."""

    service: bool
    name: str
    node: Node


class _Job(msgspec.Struct, frozen=True):
    """What matters of a job; the defaults count as a job without a name."""

    name: str
    node: Node
    uses: tuple[_Use, ...]
    passes: tuple[PassedArgument, ...]
    builds: tuple[BuiltImage, ...]
    #: Variables of each combination of its matrix; one, if it has none.
    variables: tuple[Mapping[str, Variable], ...]


def _read_jobs(
    configuration: Mapping[str, Node], inheritance: Inheritance, given: Mapping[str, Variable], file: str
) -> list[_Job]:
    top = Node({}, file, 1)
    defaults = _defaults(configuration, inheritance)
    global_variables = read_variables(inheritance.resolve(configuration.get("variables", top)))
    jobs: list[_Job] = []
    for name in configuration:
        if name.startswith(".") or name in _TOP_LEVEL_KEYWORDS:
            continue
        node = inheritance.job(name)
        keywords = node.mapping(f"the job {name!r}")
        if "trigger" in keywords:  # it starts a pipeline elsewhere, and runs in no image itself
            continue
        own = {key: inheritance.resolve(keywords[key]) for key in _JOB_KEYWORDS if key in keywords}
        inherit = own.get("inherit")
        own = {key: value for key, value in own.items() if value.value is not None}
        inherited = {key: value for key, value in defaults.items() if _inherits(inherit, "default", key)}
        variables = {
            key: value for key, value in global_variables.items() if _inherits(inherit, "variables", key)
        }
        jobs.append(_read_job(name, node, {**inherited, **own}, variables, given))
    used = {id(use.node) for job in jobs for use in job.uses}
    unused = tuple(use for use in _uses(defaults) if id(use.node) not in used)
    jobs.append(_Job("", top, unused, (), (), ({**global_variables, **given},)))
    return jobs


def _defaults(configuration: Mapping[str, Node], inheritance: Inheritance) -> dict[str, Node]:
    """Collect what jobs inherit; `default:` wins over the older keywords of the top level."""
    default = configuration.get("default")
    inner = default.mapping("`default`") if default is not None and default.value is not None else {}
    found = {**configuration, **inner}
    return {key: inheritance.resolve(found[key]) for key in _DEFAULT_KEYWORDS if key in found}


def _read_job(
    name: str,
    node: Node,
    keywords: Mapping[str, Node],
    inherited_variables: Mapping[str, Variable],
    given: Mapping[str, Variable],
) -> _Job:
    own = read_variables(keywords["variables"]) if "variables" in keywords else {}
    parallel = keywords["parallel"].value if "parallel" in keywords else None
    combinations: list[dict[str, Variable]] = []
    if isinstance(parallel, Mapping) and "matrix" in parallel:
        combinations = read_matrix(parallel["matrix"])
    script = [
        line for key in ("before_script", "script") if key in keywords for line in _flatten(keywords[key])
    ]
    return _Job(
        name,
        node,
        tuple(_uses(keywords)),
        tuple(passed_arguments(script)),
        tuple(built_images(script)),
        tuple({**inherited_variables, **own, **combination, **given} for combination in combinations or [{}]),
    )


def _inherits(inherit: Node | None, what: str, key: str) -> bool:
    """Tell whether `inherit:` lets a job have a default or a global variable."""
    if inherit is None or not isinstance(inherit.value, Mapping) or what not in inherit.value:
        return True
    chosen = inherit.value[what].value
    if isinstance(chosen, list):
        return any(item.value == key for item in chosen)
    return chosen is not False


def _uses(keywords: Mapping[str, Node]) -> Iterator[_Use]:
    image = keywords.get("image")
    if image is not None and image.value is not None:
        yield _Use(False, _image_name(image, "image"), image)
    services = keywords.get("services")
    if services is not None and services.value is not None:
        if not isinstance(services.value, list):
            raise services.error("`services` must be a list of images")
        for service in _flatten(services):
            yield _Use(True, _image_name(service, "service"), service)


def _image_name(node: Node, what: str) -> str:
    name = node.value
    if isinstance(name, Mapping):
        name = name["name"].value if "name" in name else None
    if not isinstance(name, str) or not name:
        raise node.error(f"the {what} must be the name of an image, or a mapping with `name:`")
    return name


def _flatten(node: Node, depth: int = 0) -> Iterator[Node]:
    """List the items of nested lists, as `!reference` in a list makes them; a single value is its own."""
    if not isinstance(node.value, list):
        yield node
    elif depth == LIST_DEPTH_MAX:
        raise node.error(f"lists are nested deeper than GitLab's {LIST_DEPTH_MAX} levels")
    else:
        for item in node.value:
            yield from _flatten(item, depth + 1)


def _images(jobs: Iterable[_Job], steps: Steps) -> tuple[CiImage, ...]:
    found: dict[tuple[bool, str, str, int, str], CiImage] = {}
    for job in jobs:
        for variables in job.variables:
            scope = Scope(variables)
            steps.spend(1 + len(job.uses), job.node)
            for use in job.uses:
                pattern, known = scope.expand(use.name, use.node)
                key = (use.service, job.node.file, use.node.file, use.node.line, pattern)
                found.setdefault(
                    key,
                    CiImage(
                        kind="ci-service" if use.service else "ci-image",
                        job=job.name,
                        job_file=job.node.file,
                        pattern=pattern,
                        resolved=known and "$" not in pattern,
                        file=use.node.file,
                        line=use.node.line,
                    ),
                )
    return tuple(found.values())


def _build_arguments(jobs: Sequence[_Job], steps: Steps) -> tuple[CiBuildArguments, ...]:
    """List what builds may be given. A variable that no script passes may still be passed by a program."""
    passed = {argument.name for job in jobs for argument in job.passes}
    found: dict[tuple[str, frozenset[tuple[str, str]]], CiBuildArguments] = {}
    for job in jobs:
        for variables in job.variables:
            steps.spend(len(variables) + len(job.passes), job.node)
            scope = Scope(variables)
            values = {name: scope.value(name, job.node) for name in scope.names() if name not in passed}
            values.update((argument.name, argument.value(scope)) for argument in job.passes)
            known = {name: value for name, value in values.items() if value is not None}
            if known:
                arguments = CiBuildArguments(values=known, file=job.node.file)
                found.setdefault((job.node.file, frozenset(known.items())), arguments)
    return tuple(found.values())


def _built(jobs: Iterable[_Job], steps: Steps) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for job in jobs:
        for variables in job.variables:
            scope = Scope(variables)
            steps.spend(1 + len(job.builds), job.node)
            found.update((name, None) for image in job.builds if (name := image.name(scope)))
    return tuple(found)
