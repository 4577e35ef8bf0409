"""Groups, projects, users and the instance itself."""

import msgspec

from imagechain.testing.calls import Answer, Call, Endpoint, get, not_found
from imagechain.testing.rest import render
from imagechain.testing.values import Group, Json, Project, Role

_ORDERS = {
    "id": lambda project: project.id,
    "name": lambda project: project.name,
    "path": lambda project: project.path,
    "created_at": lambda project: (project.created_at, project.id),
    "updated_at": lambda project: (project.last_activity_at, project.id),
    "last_activity_at": lambda project: (project.last_activity_at, project.id),
}


def projects_below(call: Call, group: Group, *, subgroups: bool) -> list[Project]:
    """List the projects of a group that the caller may see."""
    prefix = group.full_path + "/"
    return [
        project
        for project in call.state.projects.values()
        if (project.full_path.startswith(prefix) if subgroups else project.group == group.id)
        and call.state.may_see(call.user_or_none, project)
    ]


def _filtered(call: Call, projects: list[Project]) -> list[Project]:
    if call.optional_text("archived") is not None:
        archived = call.flag("archived")
        projects = [project for project in projects if project.archived == archived]
    if call.optional_text("active") is not None:
        active = call.flag("active")
        projects = [p for p in projects if (not p.archived and not p.deletion_scheduled) == active]
    if search := call.optional_text("search"):
        projects = [project for project in projects if search.lower() in project.name.lower()]
    if visibility := call.optional_text("visibility"):
        projects = [project for project in projects if project.visibility == visibility]
    if call.optional_text("min_access_level") is not None:
        least = call.integer("min_access_level", 0)
        projects = [p for p in projects if call.state.role(call.user_or_none, p) >= least]
    if call.flag("membership") or call.flag("owned"):
        least = Role.OWNER if call.flag("owned") else Role.GUEST
        projects = [p for p in projects if call.state.role(call.user_or_none, p) >= least]
    order = call.choice("order_by", tuple(_ORDERS), "created_at")
    descending = call.choice("sort", ("asc", "desc"), "desc") == "desc"
    return sorted(projects, key=_ORDERS[order], reverse=descending)


def _render_project(call: Call, project: Project) -> Json:
    simple = call.flag("simple")
    return (render.simple_project if simple else render.project)(call.state, project)


def _list_group_projects(call: Call) -> Answer:
    projects = projects_below(call, call.group, subgroups=call.flag("include_subgroups"))
    if call.flag("with_shared", default=True):
        shared = [
            project
            for project in call.state.projects.values()
            if call.group.id in project.shared_with and call.state.may_see(call.user_or_none, project)
        ]
        projects += [project for project in shared if project not in projects]
    return call.page(_filtered(call, projects), lambda project: _render_project(call, project))


def _list_projects(call: Call) -> Answer:
    projects = [p for p in call.state.projects.values() if call.state.may_see(call.user_or_none, p)]
    projects = _filtered(call, projects)
    if call.optional_text("pagination") == "keyset":
        return call.keyset_page(projects, lambda p: _render_project(call, p), lambda p: str(p.id), "id_after")
    return call.page(projects, lambda project: _render_project(call, project))


def _get_project(call: Call) -> Answer:
    return Answer(data=render.project(call.state, call.project))


def _list_groups(call: Call) -> Answer:
    groups = [
        group for group in call.state.groups.values() if call.state.sees_group(call.user_or_none, group)
    ]
    if search := call.optional_text("search"):
        groups = [group for group in groups if search.lower() in group.full_path.lower()]
    return call.page(groups, lambda group: render.group(call.state, group))


def _get_group(call: Call) -> Answer:
    return Answer(data=render.group(call.state, call.group))


def _list_subgroups(call: Call) -> Answer:
    groups = [group for group in call.state.groups.values() if group.parent == call.group.id]
    return call.page(groups, lambda group: render.group(call.state, group))


def _list_variables(call: Call) -> Answer:
    def shown(variable: object) -> Json:
        part: Json = msgspec.to_builtins(variable)
        return part | {"protected": False, "masked": False, "raw": False, "environment_scope": "*"}

    return call.page(list(call.project.variables.values()), shown)


def _version(call: Call) -> Answer:
    return Answer(data={"version": call.state.settings.version, "revision": "0123456789a"})


def _metadata(call: Call) -> Answer:
    settings = call.state.settings
    kas = {"enabled": False, "externalUrl": None, "externalK8sProxyUrl": None, "version": None}
    data = {
        "version": settings.version,
        "revision": "0123456789a",
        "kas": kas,
        "enterprise": settings.enterprise,
    }
    return Answer(data=data)


def _current_user(call: Call) -> Answer:
    return Answer(data=render.user_self(call.state, call.user))


def _own_token(call: Call) -> Answer:
    if call.token is None:
        raise not_found()
    return Answer(data=render.token(call.token))


def _rotate_own_token(call: Call) -> Answer:
    """Revoke the token and give out another, as `self_rotate` or `api` allow."""
    old = call.token
    if old is None:
        raise not_found()
    state = call.state
    old.revoked = True
    new = msgspec.structs.replace(
        old,
        id=state.next_id("token"),
        value=f"glpat-{state.random.getrandbits(80):020x}",
        revoked=False,
        created_at=state.clock(),
    )
    state.tokens[new.value] = new
    return Answer(data=render.token(new) | {"token": new.value})


def _member(call: Call) -> Answer:
    """Show a member with the highest of its roles; groups count."""
    user = call.found(call.state.users, "user_id", "Not")
    role = call.state.role(user, call.project)
    if role == Role.NONE:
        raise not_found()
    shown = render.user(call.state, user) | {"access_level": int(role), "expires_at": None}
    return Answer(data=shown)


ENDPOINTS: tuple[Endpoint, ...] = (
    get("projects/:id/members/all/:user_id", _member),
    get("version", _version, login=True, also="read_user"),
    get("metadata", _metadata, login=True, also="read_user"),
    get("user", _current_user, login=True, also="read_user"),
    # Any token may ask what it is.
    Endpoint(
        method="GET",
        path="personal_access_tokens/self",
        handler=_own_token,
        scopes=("read_api", "read_user", "read_repository", "read_registry", "self_rotate"),
        login=True,
    ),
    Endpoint(
        method="POST",
        path="personal_access_tokens/self/rotate",
        handler=_rotate_own_token,
        scopes=("self_rotate",),
        login=True,
    ),
    get("groups", _list_groups),
    get("groups/:id", _get_group),
    get("groups/:id/subgroups", _list_subgroups),
    get("groups/:id/projects", _list_group_projects),
    get("projects", _list_projects),
    get("projects/:id", _get_project, role=Role.GUEST),
    get("projects/:id/variables", _list_variables, role=Role.MAINTAINER),
)
