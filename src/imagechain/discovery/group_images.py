"""Which project of a GitLab instance publishes which image.

GitLab's container registry gives each project the repositories at and below its own path: who publishes
`<registry>/group/base/debian:12` is told by its name alone. Which of these exist is not asked for; the
references that count are those that somebody names. `[chain.images]` adds what projects publish elsewhere.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from imagechain.chain.values import Problem
from imagechain.config import FILE_NAME, Settings
from imagechain.discovery.globs import GlobTable
from imagechain.discovery.group_files import Branch
from imagechain.discovery.publish import references
from imagechain.refs import DEFAULT_DOMAIN, DEFAULT_TAG, Reference, ReferenceError, parse_reference

#: GitLab cuts the slug of a branch to this length, for it is used in domain names.
SLUG_CHARACTERS_MAX = 63


def slug(branch: str) -> str:
    """Give a branch's `CI_COMMIT_REF_SLUG`."""
    return re.sub(r"[^a-z0-9]", "-", branch.lower())[:SLUG_CHARACTERS_MAX].strip("-")


class Publishers:
    """Tells the source that publishes an image of the instance's registry."""

    def __init__(self, registry: str | None, branches: Sequence[Branch]) -> None:
        self._registry = registry
        #: Path in the registry -> sources of the project, by the slug of their branch; "" is the default one.
        self._projects: dict[str, dict[str, str]] = {}
        for branch in branches:
            sources = self._projects.setdefault(branch.path.lower(), {})
            is_default = branch.source == branch.path
            sources["" if is_default else slug(branch.files.branch or "")] = branch.source

    def source_of(self, reference: Reference) -> str | None:
        """Tell the source that publishes an image; a tag called like a tracked branch is of that one."""
        if reference.domain != self._registry:
            return None
        path = reference.path
        while path not in self._projects:
            path, slash, _ = path.rpartition("/")
            if not slash:
                return None
        sources = self._projects[path]
        return sources.get(slug(reference.tag or ""), sources.get(""))


def published(
    settings: Settings,
    registry: str | None,
    branches: Sequence[Branch],
    named: Iterable[str],
    built: Mapping[str, Sequence[str]],
) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    """Tell what each source publishes, as far as somebody may want to know.

    A source that builds images which nobody names publishes what its jobs build with imagechain; where they
    do not tell, it is taken to publish the image called like its project.

    Args:
        settings: `[chain.images]` counts.
        registry: host of the instance's registry.
        branches: the projects and their tracked branches.
        named: references that somebody names.
        built: by source, the names of images that its jobs build, below the project's registry.
    """
    publishers = Publishers(registry, branches)
    images: dict[str, dict[str, None]] = {branch.source: {} for branch in branches}
    for text in named:
        reference = parse_reference(text)
        source = publishers.source_of(reference)
        if source is not None:
            # A reference with a digest only is of the repository; its newest image is what it is behind.
            tag = reference.tag or DEFAULT_TAG
            images[source][f"{reference.name}:{tag}"] = None
    patterns = GlobTable(settings.chain.images)
    owners = {image: source for source, names in images.items() for image in names}
    problems: list[Problem] = []
    for branch in branches:
        found = images[branch.source]
        matching = patterns.matching(branch.path, branch.path) if branch.source == branch.path else []
        if matching and not matching[-1]:
            found.clear()
        elif matching:
            problems += _add_patterns(matching[-1], branch, found, owners)
        elif not found and branch.files.candidates and registry is not None:
            tag = DEFAULT_TAG if branch.source == branch.path else slug(branch.files.branch or "")
            address = f"{registry}/{branch.path.lower()}"
            names = [f"{address}/{name.lower()}" for name in built.get(branch.source, ())]
            found.update((f"{name}:{tag}", None) for name in names if _is_name(name))
            if not found:
                found[f"{address}:{tag}"] = None
    for key in patterns.unused_keys():
        message = f"{key!r} in [chain.images] names no project; mend or remove it"
        problems.append(Problem(file=FILE_NAME, line=None, message=message))
    return {source: tuple(sorted(names)) for source, names in images.items()}, problems


def _is_name(text: str) -> bool:
    try:
        return parse_reference(text).name == text
    except ReferenceError:
        return False


def _add_patterns(
    templates: str | list[str], branch: Branch, found: dict[str, None], owners: dict[str, str]
) -> list[Problem]:
    try:
        images = references(templates, branch.path.lower())
    except ReferenceError as error:
        return [Problem(file=FILE_NAME, line=None, message=f"[chain.images] for {branch.path}: {error}")]
    problems = []
    for image in images:
        owner = owners.setdefault(image, branch.source)
        if owner == branch.source:
            found[image] = None
        else:
            message = (
                f"{owner!r} and {branch.source!r} both publish {image}; {owner!r} keeps it. "
                f"Give one another name in [chain.images] of {FILE_NAME}"
            )
            problems.append(Problem(file=FILE_NAME, line=None, message=message))
    return problems


def variables(branch: Branch, url: str, registry: str | None) -> Mapping[str, str]:
    """List the predefined CI variables of a branch's pipelines, as far as they are known beforehand."""
    host = url.partition("://")[2].partition("/")[0]
    namespace, _, name = branch.path.rpartition("/")
    known = {
        # The dependency proxy gives what Docker Hub has: its images are those of Docker Hub.
        "CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX": DEFAULT_DOMAIN,
        "CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX": DEFAULT_DOMAIN,
        "CI_API_V4_URL": f"{url}/api/v4",
        "CI_PROJECT_ID": str(branch.project),
        "CI_PROJECT_NAME": name,
        "CI_PROJECT_NAMESPACE": namespace,
        "CI_PROJECT_PATH": branch.path,
        "CI_PROJECT_PATH_SLUG": slug(branch.path),
        "CI_PROJECT_ROOT_NAMESPACE": namespace.partition("/")[0],
        "CI_SERVER_FQDN": host,
        "CI_SERVER_HOST": host.partition(":")[0],
        "CI_SERVER_URL": url,
    }
    if branch.default_branch is not None:
        known["CI_DEFAULT_BRANCH"] = branch.default_branch
    if branch.files.branch is not None:
        known["CI_COMMIT_BRANCH"] = known["CI_COMMIT_REF_NAME"] = branch.files.branch
        known["CI_COMMIT_REF_SLUG"] = slug(branch.files.branch)
    if branch.files.commit:
        known["CI_COMMIT_SHA"], known["CI_COMMIT_SHORT_SHA"] = branch.files.commit, branch.files.commit[:8]
    if registry is not None:
        known["CI_REGISTRY"], known["CI_REGISTRY_IMAGE"] = registry, f"{registry}/{branch.path.lower()}"
    return known
