"""Files, trees, commits, branches and tags, and the lint of CI configurations."""

import base64
import hashlib
from typing import Any

from imagechain.testing.calls import (
    Answer,
    Call,
    Endpoint,
    bad_request,
    change,
    get,
    invalid,
    not_found,
    too_many_requests,
)
from imagechain.testing.ci import (
    DEFAULT_PATH,
    Included,
    flat_lines,
    predefined_variables,
    read_configuration,
    stages,
    visible_jobs,
)
from imagechain.testing.git import Entry, folder_entries
from imagechain.testing.rest import render
from imagechain.testing.values import Commit, File, Json, Role

_WRITES = ("create", "update", "delete", "move", "chmod")


def _commit_at(call: Call, ref: str) -> Commit:
    commit = call.project.resolve(ref)
    if commit is None:
        raise not_found("Commit")
    return commit


def _file_at(call: Call, ref: str) -> tuple[Commit, File]:
    commit = _commit_at(call, ref)
    file = commit.files.get(call.names["path"])
    if file is None:
        raise not_found("File")
    return commit, file


def _last_change(call: Call, commit: Commit, path: str) -> str:
    """Find the commit that gave a file its content, along the first parents."""
    file = commit.files[path]
    while commit.parents:
        parent = call.project.commits[commit.parents[0]]
        if parent.files.get(path) != file:
            break
        commit = parent
    return commit.sha


def _file_facts(call: Call) -> tuple[File, Json]:
    ref = call.text("ref")
    commit, file = _file_at(call, ref)
    path = call.names["path"]
    return file, {
        "file_name": path.rpartition("/")[2],
        "file_path": path,
        "size": len(file.content),
        "encoding": "base64",
        "content_sha256": hashlib.sha256(file.content).hexdigest(),
        "ref": ref,
        "blob_id": file.blob,
        "commit_id": commit.sha,
        "last_commit_id": _last_change(call, commit, path),
        "execute_filemode": file.executable,
    }


def _get_file(call: Call) -> Answer:
    file, facts = _file_facts(call)
    return Answer(data=facts | {"content": base64.b64encode(file.content).decode()})


def _head_file(call: Call) -> Answer:
    _, facts = _file_facts(call)
    headers = {
        "X-Gitlab-" + key.replace("_", "-").title(): str(value).lower()
        if isinstance(value, bool)
        else str(value)
        for key, value in facts.items()
    }
    return Answer(body=b"", headers=headers)


def _raw_file(call: Call) -> Answer:
    path = call.names["path"]
    limit = call.state.settings.raw_requests_per_minute_max
    if call.state.rates.take(("raw", call.project.id, path), limit) is None:
        raise too_many_requests()
    commit, file = _file_at(call, call.optional_text("ref") or "HEAD")
    headers = {
        "X-Gitlab-Blob-Id": file.blob,
        "X-Gitlab-Commit-Id": commit.sha,
        "X-Gitlab-Size": str(len(file.content)),
    }
    return Answer(body=file.content, content_type="text/plain; charset=utf-8", headers=headers)


def _tree(call: Call) -> Answer:
    commit = call.project.resolve(call.optional_text("ref") or "HEAD")
    found = None
    if commit is not None:
        path = call.optional_text("path") or ""
        found = folder_entries(commit.files, path, recursive=call.flag("recursive"))
    if found is None:
        raise not_found("Tree")
    entries = list(found)

    def shown(entry: Entry) -> Json:
        return {
            "id": entry.id,
            "name": entry.name,
            "type": entry.type,
            "path": entry.path,
            "mode": entry.mode,
        }

    kind = call.choice("pagination", ("legacy", "keyset", "none"), "legacy")
    if kind == "none":
        return Answer(data=[shown(entry) for entry in entries])
    if kind == "keyset":
        return call.keyset_page(
            entries, shown, lambda entry: entry.id + entry.path.encode().hex(), "page_token"
        )
    return call.page(entries, shown)


# --- commits


def _list_commits(call: Call) -> Answer:
    commit: Commit | None = _commit_at(call, call.optional_text("ref_name") or "HEAD")
    path = call.optional_text("path")
    found: list[Commit] = []
    while commit is not None:
        parent = call.project.commits[commit.parents[0]] if commit.parents else None
        before = parent.files.get(path) if parent is not None and path else None
        if path is None or commit.files.get(path) != before:
            found.append(commit)
        commit = parent
    return call.page(found, lambda item: render.commit(call.state, call.project, item))


def _get_commit(call: Call) -> Answer:
    commit = _commit_at(call, call.names["sha"])
    pipelines = [item for item in call.project.pipelines.values() if item.sha == commit.sha]
    last = max(pipelines, key=lambda item: item.id, default=None)
    extra = {
        "status": None if last is None else last.status,
        "project_id": call.project.id,
        "last_pipeline": None if last is None else render.pipeline_basic(call.state, last),
    }
    return Answer(data=render.commit(call.state, call.project, commit) | extra)


def _content(action: Json) -> bytes:
    content = str(action.get("content") or "")
    return base64.b64decode(content) if action.get("encoding") == "base64" else content.encode()


def _changed_files(action: Any, tree: dict[str, File], commit_of: Any) -> dict[str, bytes | None]:
    """Read one action of a commit."""
    if not isinstance(action, dict) or action.get("action") not in _WRITES or not action.get("file_path"):
        raise invalid("actions[0][action]", "does not have a valid value")
    path, kind = str(action["file_path"]), action["action"]
    if kind == "create" and path in tree:
        raise bad_request("A file with this name already exists")
    old = str(action.get("previous_path") or path)
    if kind != "create" and old not in tree:
        raise bad_request("A file with this name doesn't exist")
    if action.get("last_commit_id") and action["last_commit_id"] != commit_of(path):
        raise bad_request(
            "You are attempting to update a file that has changed since you started editing it."
        )
    if kind == "delete":
        return {path: None}
    if kind == "move":
        content = _content(action) if "content" in action else tree[old].content
        return {old: None, path: content}
    return {path: tree[path].content if kind == "chmod" else _content(action)}


def _may_push(call: Call, branch: str) -> None:
    if branch in call.project.protected_branches and call.role < Role.MAINTAINER:
        raise bad_request("You are not allowed to push into this branch")


def _write(call: Call, actions: list[Any]) -> Commit:
    project, branch, message = call.project, call.text("branch"), call.text("commit_message")
    _may_push(call, branch)
    start = call.optional_text("start_sha") or call.optional_text("start_branch")
    if branch in project.branches and start is not None and not call.flag("force"):
        raise bad_request(
            f"A branch called '{branch}' already exists. Switch to that branch in order to make changes"
        )
    if branch not in project.branches and start is None and project.head is not None:
        raise bad_request("You can only create or edit files when you are on a branch")
    at = project.resolve(f"refs/heads/{branch}") or (project.resolve(start) if start else project.head)
    changes: dict[str, str | bytes | None] = {}
    for action in actions:
        tree = dict(at.files) if at is not None else {}
        changes |= _changed_files(
            action, tree, lambda path: _last_change(call, at, path) if at is not None else None
        )
    return call.parts.repositories.push(
        project, changes, user=call.user, branch=branch, message=message, start=start
    )


def _create_commit(call: Call) -> Answer:
    actions = call.params.get("actions")
    if not isinstance(actions, list):
        raise invalid("actions", "is missing")
    commit = _write(call, actions)
    stats = {"additions": 0, "deletions": 0, "total": 0}
    return Answer(status=201, data=render.commit(call.state, call.project, commit) | {"stats": stats})


def _write_file(kind: str) -> Any:
    def handler(call: Call) -> Answer:
        path = call.names["path"]
        _write(call, [{**call.params, "action": kind, "file_path": path}])
        if kind == "delete":
            return Answer(status=204)
        data = {"file_path": path, "branch": call.text("branch")}
        return Answer(status=201 if kind == "create" else 200, data=data)

    return handler


# --- branches and tags


def _list_branches(call: Call) -> Answer:
    names = sorted(call.project.branches)
    if search := call.optional_text("search"):
        names = [name for name in names if search in name]
    return call.page(names, lambda name: render.branch(call.state, call.project, name))


def _get_branch(call: Call) -> Answer:
    if call.names["branch"] not in call.project.branches:
        raise not_found("Branch")
    return Answer(data=render.branch(call.state, call.project, call.names["branch"]))


def _create_branch(call: Call) -> Answer:
    name = call.text("branch")
    call.parts.repositories.create_branch(call.project, name, call.text("ref"), user=call.user)
    return Answer(status=201, data=render.branch(call.state, call.project, name))


def _delete_branch(call: Call) -> Answer:
    if call.names["branch"] not in call.project.branches:
        raise not_found("Branch")
    _may_push(call, call.names["branch"])
    call.parts.repositories.delete_branch(call.project, call.names["branch"], user=call.user)
    return Answer(status=204)


def _list_tags(call: Call) -> Answer:
    return call.page(sorted(call.project.tags), lambda name: render.tag(call.state, call.project, name))


def _get_tag(call: Call) -> Answer:
    if call.names["tag"] not in call.project.tags:
        raise not_found("Tag")
    return Answer(data=render.tag(call.state, call.project, call.names["tag"]))


def _create_tag(call: Call) -> Answer:
    name = call.text("tag_name")
    call.parts.repositories.tag(call.project, name, call.text("ref"), user=call.user)
    return Answer(status=201, data=render.tag(call.state, call.project, name))


# --- lint


def _include(call: Call, included: Included) -> Json:
    url = None if included.project is None else f"{call.state.settings.url}/{included.project.full_path}"
    extra: Json = {}
    if included.type == "file" and included.project is not None:
        extra = {"project": included.project.full_path, "ref": included.ref}
    return {
        "type": included.type,
        "location": included.location,
        "blob": None if url is None else f"{url}/-/blob/{included.sha}/{included.path}",
        "raw": None if url is None else f"{url}/-/raw/{included.sha}/{included.path}",
        "extra": extra,
        "context_project": included.context_project,
        "context_sha": included.context_sha,
    }


def _lint(call: Call, commit: Commit, text: str, ref: str) -> Answer:
    project = call.project
    given = predefined_variables(call.state, project, ref, commit.sha, "push")
    configuration = read_configuration(call.state, project, commit, text, variables=given)
    data: Json = {
        "valid": not configuration.errors,
        "errors": list(configuration.errors),
        "warnings": [],
        "merged_yaml": configuration.merged_yaml,
        "includes": [_include(call, included) for included in configuration.includes],
    }
    if call.flag("include_jobs"):
        order = stages(configuration.content)
        jobs = visible_jobs(configuration.content).items()
        data["jobs"] = [
            {
                "name": name,
                "stage": job.get("stage", "test"),
                "before_script": list(flat_lines(job.get("before_script"))),
                "script": list(flat_lines(job.get("script"))),
                "after_script": list(flat_lines(job.get("after_script"))),
                "tag_list": list(flat_lines(job.get("tags"))),
                "only": None if "rules" in job else {"refs": ["branches", "tags"]},
                "except": None,
                "environment": job.get("environment"),
                "when": job.get("when", "on_success"),
                "allow_failure": bool(job.get("allow_failure", False)),
                "needs": job.get("needs"),
            }
            for name, job in sorted(jobs, key=lambda item: order.index(item[1].get("stage", "test")))
        ]
    return Answer(data=data)


def _lint_project(call: Call) -> Answer:
    """Lint the file of the repository; a path that leads to another project yields nothing."""
    if call.project.default_branch is None:
        raise not_found("Repository")
    ref = call.optional_text("content_ref") or call.optional_text("sha") or "HEAD"
    commit = _commit_at(call, ref)
    file = commit.files.get(call.project.ci_config_path or DEFAULT_PATH)
    if file is None:
        data = {
            "valid": False,
            "errors": ["Please provide content of .gitlab-ci.yml"],
            "warnings": [],
            "merged_yaml": None,
            "includes": [],
        }
        return Answer(data=data)
    branch = call.project.default_branch if ref == "HEAD" else ref
    return _lint(call, commit, file.content.decode(errors="replace"), branch)


def _lint_content(call: Call) -> Answer:
    if call.project.default_branch is None:
        raise not_found("Repository")
    ref = call.optional_text("ref") or call.project.default_branch
    return _lint(call, _commit_at(call, ref), call.text("content"), ref)


_FILE = "projects/:id/repository/files/:path"
ENDPOINTS: tuple[Endpoint, ...] = (
    get(_FILE, _get_file, also="read_repository"),
    Endpoint(
        method="HEAD",
        path=_FILE,
        handler=_head_file,
        role=Role.REPORTER,
        scopes=("read_api", "read_repository"),
    ),
    get(f"{_FILE}/raw", _raw_file, also="read_repository"),
    change("POST", _FILE, _write_file("create")),
    change("PUT", _FILE, _write_file("update")),
    change("DELETE", _FILE, _write_file("delete")),
    get("projects/:id/repository/tree", _tree, also="read_repository"),
    get("projects/:id/repository/commits", _list_commits),
    get("projects/:id/repository/commits/:sha", _get_commit),
    change("POST", "projects/:id/repository/commits", _create_commit),
    get("projects/:id/repository/branches", _list_branches),
    get("projects/:id/repository/branches/:branch", _get_branch),
    change("POST", "projects/:id/repository/branches", _create_branch),
    change("DELETE", "projects/:id/repository/branches/:branch", _delete_branch),
    get("projects/:id/repository/tags", _list_tags),
    get("projects/:id/repository/tags/:tag", _get_tag),
    change("POST", "projects/:id/repository/tags", _create_tag),
    get("projects/:id/ci/lint", _lint_project),
    change("POST", "projects/:id/ci/lint", _lint_content),
)
