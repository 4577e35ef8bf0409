"""The registry API: what GitLab knows of the images of a project. Only the call for one tag has a digest."""

from imagechain.testing.calls import Answer, Call, Endpoint, change, get, not_found
from imagechain.testing.rest.projects import projects_below
from imagechain.testing.state import State
from imagechain.testing.times import iso
from imagechain.testing.values import Json, RegistryRepository, RegistryTag, Role


def _render_basic(state: State, repository: RegistryRepository) -> Json:
    """Render a registry repository."""
    path = _path(state, repository)
    return {
        "id": repository.id,
        "name": repository.name,
        "path": path,
        "project_id": repository.project,
        "location": f"{state.settings.registry_host}/{path}",
        "created_at": iso(repository.created_at),
        "cleanup_policy_started_at": None,
        "status": None,
    }


def _path(state: State, repository: RegistryRepository) -> str:
    """Name a registry repository; below the project's path, in small letters."""
    project = state.projects[repository.project]
    return "/".join(part for part in (project.full_path.lower(), repository.name) if part)


def _render_tag(state: State, repository: RegistryRepository, tag: RegistryTag) -> Json:
    """Render a tag as lists do: without its digest."""
    path = f"{_path(state, repository)}:{tag.name}"
    return {"name": tag.name, "path": path, "location": f"{state.settings.registry_host}/{path}"}


def _render_detail(state: State, repository: RegistryRepository, tag: RegistryTag) -> Json:
    """Render a single tag, with its digest."""
    return _render_tag(state, repository, tag) | {
        "revision": tag.revision,
        "short_revision": tag.revision[:9],
        "digest": tag.digest,
        "created_at": iso(tag.created_at),
        "total_size": tag.total_size,
    }


def _render(call: Call, repository: RegistryRepository) -> Json:
    part = _render_basic(call.state, repository)
    if call.flag("tags_count"):
        part["tags_count"] = len(repository.tags)
    if call.flag("tags"):
        tags = repository.tags.values()
        part["tags"] = [_render_tag(call.state, repository, tag) for tag in tags]
    if call.flag("size"):
        part["size"] = sum(tag.total_size for tag in repository.tags.values())
    return part


def _list_in_project(call: Call) -> Answer:
    return call.page(list(call.project.registry.values()), lambda repository: _render(call, repository))


def _list_in_group(call: Call) -> Answer:
    rows = [
        repository
        for project in projects_below(call, call.group, subgroups=True)
        for repository in project.registry.values()
    ]
    return call.page(rows, lambda repository: _render_basic(call.state, repository))


def _get(call: Call) -> Answer:
    wanted = call.number_in_path("repository_id", "")
    for project in call.state.projects.values():
        if wanted in project.registry and call.state.may_see(call.user_or_none, project):
            return Answer(data=_render(call, project.registry[wanted]))
    raise not_found()


def _repository(call: Call) -> RegistryRepository:
    return call.found(call.project.registry, "repository_id")


def _list_tags(call: Call) -> Answer:
    repository = _repository(call)
    rows = sorted(repository.tags.values(), key=lambda tag: tag.name)
    return call.page(rows, lambda tag: _render_tag(call.state, repository, tag))


def _get_tag(call: Call) -> Answer:
    repository = _repository(call)
    tag = repository.tags.get(call.names["tag"])
    if tag is None:
        raise not_found("Tag")
    return Answer(data=_render_detail(call.state, repository, tag))


def _delete_tag(call: Call) -> Answer:
    if _repository(call).tags.pop(call.names["tag"], None) is None:
        raise not_found("Tag")
    return Answer()


_TAGS = "projects/:id/registry/repositories/:repository_id/tags"
ENDPOINTS: tuple[Endpoint, ...] = (
    get("projects/:id/registry/repositories", _list_in_project),
    get("groups/:id/registry/repositories", _list_in_group),
    get("registry/repositories/:repository_id", _get),
    get(_TAGS, _list_tags),
    get(f"{_TAGS}/:tag", _get_tag),
    change("DELETE", f"{_TAGS}/:tag", _delete_tag, role=Role.DEVELOPER),
)
