"""The registry API: what GitLab knows of the images of a project. Only the call for one tag has a digest."""

from imagechain.testing.calls import Answer, Call, Endpoint, change, get, not_found
from imagechain.testing.rest import render
from imagechain.testing.rest.projects import projects_below
from imagechain.testing.values import Json, RegistryRepository, Role


def _render(call: Call, repository: RegistryRepository) -> Json:
    part = render.registry_repository(call.state, repository)
    if call.flag("tags_count"):
        part["tags_count"] = len(repository.tags)
    if call.flag("tags"):
        tags = repository.tags.values()
        part["tags"] = [render.registry_tag(call.state, repository, tag) for tag in tags]
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
    return call.page(rows, lambda repository: render.registry_repository(call.state, repository))


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
    return call.page(rows, lambda tag: render.registry_tag(call.state, repository, tag))


def _get_tag(call: Call) -> Answer:
    repository = _repository(call)
    tag = repository.tags.get(call.names["tag"])
    if tag is None:
        raise not_found("Tag")
    return Answer(data=render.registry_tag_detail(call.state, repository, tag))


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
