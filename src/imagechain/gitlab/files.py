"""Reads the repositories of many projects: newest commits, names of files, contents.

GraphQL reads them in batches; a project that GitLab fails on in a batch, or whose files do not fit on a page,
is read by itself over REST. What cannot be read even so is a value (`Unreadable`), so that one broken
repository does not hide the others.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from imagechain.gitlab import graphql, rest
from imagechain.gitlab.batches import batched_alike, in_batches
from imagechain.gitlab.client import Client
from imagechain.gitlab.errors import ContractError, NotFoundError, OverloadedError, PermanentError
from imagechain.together import together

#: Largest file that is read.
FILE_BYTES_MAX = 1024 * 1024
#: The mode of a symbolic link in a tree.
LINK_MODE = "120000"


class Unreadable(msgspec.Struct, frozen=True):
    """Something that could not be read; the message says why, and what to do."""

    message: str
    #: Whether it may be readable the next time.
    again: bool = False


class ProjectHeads(msgspec.Struct, frozen=True, kw_only=True):
    """A project and the newest commits of its tracked branches."""

    id: int
    path: str
    #: The group that it was found in.
    group: str
    #: None: the repository is empty.
    default_branch: str | None = None
    #: Path of the CI configuration; with `@group/project` in another project, or an URL.
    ci_path: str = ""
    #: By branch; one that does not exist is missing.
    commits: Mapping[str, str] = {}
    unreadable: Unreadable | None = None


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """A branch of a project whose files are wanted."""

    project: int
    path: str
    group: str
    branch: str
    is_default: bool

    @property
    def ref(self) -> str | None:
        """The branch, where it must be named."""
        return None if self.is_default else self.branch


class FileName(msgspec.Struct, frozen=True):
    """A file of a repository: its blob's object id, and whether it is a symbolic link."""

    oid: str
    is_link: bool = False


async def read_heads(client: Client, group: str, branches: Sequence[str]) -> list[ProjectHeads]:
    """List a group's projects, also of its subgroups, with the newest commits of their branches.

    Archived projects and those that are only shared with the group are left out.
    """
    found: list[ProjectHeads] = []
    rows_max = graphql.heads_rows_max(len(branches))
    rows, after = rows_max, None
    while True:
        try:
            page = await client.send(graphql.heads(group, after, rows, branches))
            found += [_heads(node, group, branches) for node in _own(page.nodes, group)]
        except OverloadedError:
            if rows > 1:
                rows //= 2
                continue
            # GitLab fails on the repository of this very project.
            page = await client.send(graphql.names(group, after, rows))
            found += [await _heads_alone(client, node, group, branches) for node in _own(page.nodes, group)]
            rows = rows_max
        if not page.page_info.has_next_page or page.page_info.end_cursor is None:
            return found
        if page.page_info.end_cursor == after:
            raise ContractError(
                f"the projects of the group {group}: GitLab gives the same page again; report this"
            )
        after = page.page_info.end_cursor


def _own(nodes: Iterable[graphql.HeadNode | None], group: str) -> list[graphql.HeadNode]:
    """Keep the projects that are in the group itself, and in use."""
    own: list[graphql.HeadNode] = []
    for node in nodes:
        if node is None:
            raise OverloadedError(f"the projects of the group {group}: GitLab failed on one of them")
        if not node.archived and node.full_path.lower().startswith(f"{group.lower()}/"):
            own.append(node)
    return own


def _heads(node: graphql.HeadNode, group: str, branches: Sequence[str]) -> ProjectHeads:
    if node.repository is None:
        message = (
            "its files may not be read: give the token's user the role Reporter there; if its repository is "
            "switched off, add it to gitlab.exclude"
        )
        return _project(node, group, unreadable=Unreadable(message))
    root = node.repository.get("rootRef")
    commits: dict[str, str] = {}
    for name, alias in [(root, "tree"), *((name, f"b{i}") for i, name in enumerate(branches))]:
        tree = node.repository.get(alias)
        if isinstance(name, str) and isinstance(tree, graphql.Tree) and tree.last_commit is not None:
            commits.setdefault(name, tree.last_commit.sha)
    if isinstance(root, str) and root not in commits:
        raise OverloadedError(f"the branch {root} of {node.full_path}: GitLab failed on it")
    default = root if isinstance(root, str) else None
    return _project(node, group, default_branch=default, commits=commits)


def _project(
    node: graphql.HeadNode,
    group: str,
    *,
    default_branch: str | None = None,
    commits: Mapping[str, str] | None = None,
    unreadable: Unreadable | None = None,
) -> ProjectHeads:
    return ProjectHeads(
        id=graphql.project_id(node.id),
        path=node.full_path,
        group=group,
        default_branch=default_branch,
        ci_path=node.ci_config_path_or_default,
        commits=commits or {},
        unreadable=unreadable,
    )


async def _heads_alone(
    client: Client, node: graphql.HeadNode, group: str, branches: Sequence[str]
) -> ProjectHeads:
    number = graphql.project_id(node.id)
    commits: dict[str, str] = {}
    try:
        default = (await client.send(rest.project(number))).default_branch
        for name in dict.fromkeys([default, *branches]) if default is not None else ():
            try:
                commits[name] = (await client.send(rest.branch(number, name))).commit.id
            except NotFoundError:
                if name == default:
                    raise
    except (PermanentError, OverloadedError) as error:
        return _project(node, group, unreadable=Unreadable(str(error)))
    return _project(node, group, default_branch=default, commits=commits)


async def read_names(
    client: Client, checkouts: Sequence[Checkout]
) -> dict[Checkout, dict[str, FileName] | Unreadable]:
    """List all files of each checkout, by path."""
    found: dict[Checkout, dict[str, FileName] | Unreadable] = {}

    async def ask_alone(checkout: Checkout) -> None:
        try:
            entries = await client.send(rest.tree(checkout.project, checkout.branch))
        except (PermanentError, OverloadedError) as error:
            found[checkout] = Unreadable(str(error))
            return
        found[checkout] = {
            entry.path: FileName(entry.id, entry.mode == LINK_MODE)
            for entry in entries
            if entry.type == "blob"
        }

    async def ask(batch: Sequence[Checkout]) -> None:
        first = batch[0]
        page = await client.send(graphql.trees(first.group, [one.project for one in batch], first.ref))
        trees = {
            graphql.project_id(node.id): node.repository.tree.blobs
            for node in page.nodes
            if node is not None and node.repository is not None and node.repository.tree is not None
        }
        alone: list[Checkout] = []
        for checkout in batch:
            blobs = trees.get(checkout.project)
            if blobs is None or blobs.page_info.has_next_page or None in blobs.nodes:
                alone.append(checkout)
            else:
                found[checkout] = {
                    blob.path: FileName(blob.sha, blob.mode == LINK_MODE)
                    for blob in blobs.nodes
                    if blob is not None
                }
        await together(*map(ask_alone, alone))

    batches = batched_alike(checkouts, _same_query, items_max=graphql.BATCH_PROJECTS_MAX)
    await in_batches(batches, ask, ask_alone)
    return found


class _Wish(msgspec.Struct, frozen=True):
    """Files of one checkout, as many as one query can name."""

    checkout: Checkout
    paths: tuple[str, ...]


async def read_contents(
    client: Client, wanted: Mapping[Checkout, Sequence[str]]
) -> dict[Checkout, dict[str, str | Unreadable]]:
    """Read files by path; each is a text, or says why it is none. Files that went meanwhile are missing."""
    found: dict[Checkout, dict[str, str | Unreadable]] = {checkout: {} for checkout in wanted}

    async def ask_alone(wish: _Wish) -> None:
        checkout = wish.checkout
        for path in wish.paths:
            call = rest.raw_file(checkout.project, path, checkout.branch, bytes_max=FILE_BYTES_MAX)
            try:
                data = await client.send(call)
            except (PermanentError, OverloadedError) as error:
                again = isinstance(error, (NotFoundError, OverloadedError))
                found[checkout][path] = Unreadable(str(error), again=again)
            else:
                found[checkout][path] = _content(data.decode(errors="replace"), len(data))

    async def ask(batch: Sequence[_Wish]) -> None:
        first = batch[0].checkout
        paths = sorted({path for wish in batch for path in wish.paths})
        ids = [wish.checkout.project for wish in batch]
        page = await client.send(graphql.contents(first.group, ids, first.ref, paths))
        read = {
            graphql.project_id(node.id): node.repository.blobs.nodes
            for node in page.nodes
            if node is not None and node.repository is not None and node.repository.blobs is not None
        }
        alone: list[_Wish] = []
        for wish in batch:
            blobs = {blob.path: blob for blob in read.get(wish.checkout.project, ()) if blob is not None}
            if not blobs:
                alone.append(wish)
            for path in blobs.keys() & set(wish.paths):
                content = _content(blobs[path].raw_text_blob, int(blobs[path].size or 0))
                found[wish.checkout][path] = content
        await together(*map(ask_alone, alone))

    await in_batches(_wishes(wanted), ask, ask_alone)
    return found


def _content(text: str | None, size_bytes: int) -> str | Unreadable:
    if size_bytes > FILE_BYTES_MAX:
        return Unreadable(f"is larger than {FILE_BYTES_MAX} bytes, so it is hardly a text; it is not read")
    if text is None or "\0" in text:
        return Unreadable("is a binary file; it is not read")
    return text


def _same_query(checkout: Checkout) -> tuple[str, str]:
    """What all projects of one query have in common."""
    return checkout.group, checkout.ref or ""


def _wishes(wanted: Mapping[Checkout, Sequence[str]]) -> list[list[_Wish]]:
    """Put projects together that want the same files: a query names one list of paths for all of them."""
    paths_max = graphql.paths_max(graphql.BATCH_PROJECTS_MAX)
    wishes = [
        _Wish(checkout, tuple(ordered[start : start + paths_max]))
        for checkout, paths in wanted.items()
        for ordered in [sorted(paths)]
        for start in range(0, len(ordered), paths_max)
    ]
    batches: list[list[_Wish]] = []
    paths_of_batch: set[str] = set()
    for wish in sorted(wishes, key=lambda one: (_same_query(one.checkout), one.paths)):
        paths_of_batch |= set(wish.paths)
        if (
            not batches
            or len(batches[-1]) == graphql.BATCH_PROJECTS_MAX
            or len(paths_of_batch) > paths_max
            or _same_query(batches[-1][0].checkout) != _same_query(wish.checkout)
            or batches[-1][-1].checkout == wish.checkout
        ):
            batches.append([])
            paths_of_batch = set(wish.paths)
        batches[-1].append(wish)
    return batches
