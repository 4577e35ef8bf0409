"""Commits, branches and tags: pushes with the hooks and pipelines that follow from them."""

from collections.abc import Mapping, Sequence

from imagechain.testing import payloads
from imagechain.testing.git import commit_id, list_tree, make_file
from imagechain.testing.hooks import Hooks
from imagechain.testing.pipelines import Pipelines
from imagechain.testing.state import State
from imagechain.testing.values import NO_COMMIT, Commit, File, Project, RefChange, SimulationError, User

_SKIP_CI = ("[skip ci]", "[ci skip]")


class Repositories:
    """Changes repositories."""

    def __init__(self, state: State, hooks: Hooks, pipelines: Pipelines) -> None:
        self._state = state
        self._hooks = hooks
        self._pipelines = pipelines

    def commit(
        self, project: Project, parent: Commit | None, files: Mapping[str, File], message: str, author: User
    ) -> Commit:
        """Make a commit with this whole tree; no branch leads to it yet."""
        now = self._state.clock()
        tree, _ = list_tree(files)
        parents = (parent.sha,) if parent is not None else ()
        who = f"{author.name} <{author.username}@example.com>"
        commit = Commit(
            sha=commit_id(tree, parents, who, now, message),
            parents=parents,
            message=message,
            author=author,
            created_at=now,
            files=dict(files),
            tree=tree,
        )
        project.commits[commit.sha] = commit
        return commit

    def push(
        self,
        project: Project,
        files: Mapping[str, str | bytes | File | None],
        *,
        user: User,
        branch: str | None = None,
        message: str = "Change",
        start: str | None = None,
    ) -> Commit:
        """Change files on a branch (the default one) by a commit, and push it; None removes a file.

        `start` names the ref that a new branch begins at.
        """
        change = self._change(project, files, user, message, branch=branch, start=start)
        self.push_refs(project, [change], user=user)
        return change.commits[0]

    def import_files(
        self, project: Project, files: Mapping[str, str | bytes | File | None], *, user: User, branch: str
    ) -> None:
        """Fill an empty project with a first commit; nothing follows from it."""
        self._move(project, self._change(project, files, user, "Begin", branch=branch, start=None))

    def _change(
        self,
        project: Project,
        files: Mapping[str, str | bytes | File | None],
        user: User,
        message: str,
        *,
        branch: str | None,
        start: str | None,
    ) -> RefChange:
        branch = branch or project.default_branch or "main"
        parent = project.resolve(f"refs/heads/{branch}")
        first = parent or (project.resolve(start) if start is not None else project.head)
        tree = dict(first.files) if first is not None else {}
        for path, content in files.items():
            if content is None:
                if tree.pop(path, None) is None:
                    raise SimulationError(f"A file with this name doesn't exist: {path}")
            elif isinstance(content, File):
                tree[path] = content
            else:
                old = tree.get(path)
                data = content.encode() if isinstance(content, str) else content
                tree[path] = make_file(data, executable=old.executable if old is not None else False)
        commit = self.commit(project, first, tree, message, user)
        before = parent.sha if parent is not None else NO_COMMIT
        return RefChange(ref=f"refs/heads/{branch}", before=before, after=commit.sha, commits=(commit,))

    def push_refs(self, project: Project, changes: Sequence[RefChange], *, user: User) -> None:
        """Move branches and tags by one push. More than a few of one kind fire no hook at all."""
        project.last_activity_at = self._state.clock()
        for change in changes:
            self._move(project, change)
        limit = self._state.settings.push_event_hooks_limit
        for prefix, trigger in (("refs/heads/", "push_hooks"), ("refs/tags/", "tag_push_hooks")):
            moved = [change for change in changes if change.ref.startswith(prefix)]
            if len(moved) > limit:
                self._hooks.too_many_refs(project)
            else:
                for change in moved:
                    self._emit(project, change, trigger, user)
        for change in changes:
            if change.after != NO_COMMIT:
                self._start_pipeline(project, change, user)

    def _move(self, project: Project, change: RefChange) -> None:
        refs = project.branches if change.ref.startswith("refs/heads/") else project.tags
        name = change.ref.split("/", 2)[2]
        if change.after == NO_COMMIT:
            if name == project.default_branch:
                raise SimulationError("The default branch of a project cannot be deleted.")
            refs.pop(name, None)
            return
        refs[name] = change.after
        if project.default_branch is None and change.ref.startswith("refs/heads/"):
            project.default_branch = name
            project.protected_branches.add(name)

    def _emit(self, project: Project, change: RefChange, trigger: str, user: User) -> None:
        state = self._state
        self._hooks.emit(
            project,
            trigger,
            lambda: payloads.push(state, project, user, change),
            branch=change.ref.removeprefix("refs/heads/") if trigger == "push_hooks" else None,
        )

    def _start_pipeline(self, project: Project, change: RefChange, user: User) -> None:
        commit = project.commits[change.after]
        skip = any(mark in commit.message for mark in _SKIP_CI)
        self._pipelines.create_for_push(project, change.ref, user=user, skip=skip)

    def create_branch(self, project: Project, name: str, start: str, *, user: User) -> Commit:
        """Make a branch at a ref.

        Raises:
            SimulationError: the branch is there, or the ref is not.
        """
        commit = project.resolve(start)
        if name in project.branches:
            raise SimulationError("Branch already exists")
        if commit is None:
            raise SimulationError("Invalid reference name: " + start)
        change = RefChange(ref=f"refs/heads/{name}", before=NO_COMMIT, after=commit.sha)
        self.push_refs(project, [change], user=user)
        return commit

    def delete_branch(self, project: Project, name: str, *, user: User) -> None:
        """Remove a branch.

        Raises:
            SimulationError: it is not there, or is the default one.
        """
        if name not in project.branches:
            raise SimulationError("404 Branch Not Found")
        change = RefChange(ref=f"refs/heads/{name}", before=project.branches[name], after=NO_COMMIT)
        self.push_refs(project, [change], user=user)

    def tag(self, project: Project, name: str, ref: str, *, user: User) -> Commit:
        """Make a tag at a ref.

        Raises:
            SimulationError: the tag is there, or the ref is not.
        """
        commit = project.resolve(ref)
        if name in project.tags:
            raise SimulationError(f"Tag {name} already exists")
        if commit is None:
            raise SimulationError(f"Target {ref} is invalid")
        change = RefChange(ref=f"refs/tags/{name}", before=NO_COMMIT, after=commit.sha)
        self.push_refs(project, [change], user=user)
        return commit

    def rename_default_branch(self, project: Project, name: str) -> None:
        """Give the default branch another name, as a project's settings do; no hook tells of it."""
        old = project.default_branch
        if old is None:
            raise SimulationError(f"{project.full_path} is empty: it has no default branch")
        project.branches[name] = project.branches.pop(old)
        project.protected_branches.discard(old)
        project.protected_branches.add(name)
        project.default_branch = name
