"""git's own object ids, so that ids read over HTTP equal those of a real repository with the same files."""

import hashlib
from collections.abc import Iterator, Mapping

import msgspec

from imagechain.testing.values import File


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a folder."""

    id: str
    path: str
    #: `blob` or `tree`.
    type: str
    mode: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def object_id(kind: str, data: bytes) -> str:
    """Hash an object as git does."""
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=False).hexdigest()


def make_file(content: bytes, *, executable: bool = False) -> File:
    """Make a file, with its blob id."""
    return File(content=content, blob=object_id("blob", content), executable=executable)


class _Folder:
    """A folder while ids are computed."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.folders: dict[str, _Folder] = {}

    def entries(self, prefix: str) -> tuple[str, list[Entry]]:
        """Compute the folder's id, and list everything in it, folders before what they hold."""
        listed: list[tuple[str, Entry, list[Entry]]] = []
        for name, file in self.files.items():
            mode = "100755" if file.executable else "100644"
            listed.append((name, Entry(id=file.blob, path=prefix + name, type="blob", mode=mode), []))
        for name, folder in self.folders.items():
            tree, inner = folder.entries(f"{prefix}{name}/")
            # git sorts a folder as if its name ended in a slash.
            listed.append((name + "/", Entry(id=tree, path=prefix + name, type="tree", mode="040000"), inner))
        listed.sort(key=lambda item: item[0].encode())
        data = b"".join(
            f"{entry.mode.lstrip('0')} {entry.name}".encode() + b"\0" + bytes.fromhex(entry.id)
            for _, entry, _ in listed
        )
        flat = [found for _, entry, inner in listed for found in (entry, *inner)]
        return object_id("tree", data), flat


def list_tree(files: Mapping[str, File]) -> tuple[str, list[Entry]]:
    """Compute the id of the top folder, and list all folders and files below it."""
    top = _Folder()
    for path, file in files.items():
        *parents, name = path.split("/")
        folder = top
        for parent in parents:
            folder = folder.folders.setdefault(parent, _Folder())
        folder.files[name] = file
    return top.entries("")


def folder_entries(files: Mapping[str, File], folder: str, *, recursive: bool) -> Iterator[Entry] | None:
    """List a folder (empty: the top one) as GitLab does, its folders first; None: there is no such folder."""
    folder = folder.strip("/")
    prefix = f"{folder}/" if folder else ""
    below = [entry for entry in list_tree(files)[1] if entry.path.startswith(prefix) and entry.path != folder]
    if folder and not below:
        return None
    if recursive:
        return iter(below)
    direct = [entry for entry in below if "/" not in entry.path[len(prefix) :]]
    return iter(sorted(direct, key=lambda entry: (entry.type != "tree", entry.path)))


def commit_id(tree: str, parents: tuple[str, ...], author: str, at: float, message: str) -> str:
    """Hash a commit as git does, in UTC."""
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
    lines += [f"author {author} {int(at)} +0000", f"committer {author} {int(at)} +0000", "", message]
    return object_id("commit", "\n".join(lines).encode())
