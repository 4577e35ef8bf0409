"""What an image says of where it comes from: labels from git, from its base, and the record of its inputs.

Names and meanings are the OCI image-spec's (`annotations.md`). Outside git, and in a folder that git does not
track, what git would say is left out.
"""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec

from imagechain.images import process
from imagechain.images.builder import INPUTS_LABEL, RECIPE_LABEL, Base, InputRecord
from imagechain.images.process import ProgramError
from imagechain.together import together

_OCI = "org.opencontainers.image."
#: Labels in which an image speaks of itself: of a base they are not true of its children.
OWN_LABELS = frozenset(
    {f"{_OCI}{name}" for name in ("created", "revision", "source", "version", "base.name", "base.digest")}
    | {INPUTS_LABEL, RECIPE_LABEL}
)
_GIT_SECONDS_MAX = 30.0
#: git is asked about the folder it is given, whatever repository a surrounding git (a hook) speaks of.
_UNSET = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})
_DIRTY = "-dirty"
_REVISION_CHARACTERS = 12
_WEB_SCHEMES = frozenset({"http", "https"})
_CLONE_SCHEMES = frozenset({"ssh", "git+ssh", "git"})
_SCP_LIKE = re.compile(r"(?:(?P<user>[^@/:]+)@)?[^@/:]+:(?!//)")


class GitFacts(msgspec.Struct, frozen=True):
    """What git knows of a folder."""

    revision: str
    #: Time of the commit, Unix seconds.
    created: int
    #: The tag of the commit, else the beginning of its hash; `-dirty` where files were changed since.
    version: str
    #: Address of the repository for browsers, without credentials; empty where there is none.
    source: str

    @property
    def is_tagged(self) -> bool:
        """Whether the version is a tag."""
        return not self.revision.startswith(self.version.removesuffix(_DIRTY))


async def read_git(file: Path) -> GitFacts | None:
    """Ask git about the repository of a file; None where git does not track the file, or is not there."""
    # Tags of earlier commits would not do: clones of CI jobs have only some of them.
    describe = ("describe", "--tags", "--candidates=0", "--always", f"--dirty={_DIRTY}")
    try:
        tracked, head, described, source = await together(
            _git(file.parent, "ls-files", "--error-unmatch", "--", file.name),
            _git(file.parent, "log", "-1", "--format=%H %ct"),
            _git(file.parent, *describe),
            _git(file.parent, "config", "--get", "remote.origin.url"),
        )
    except ProgramError:
        return None
    if tracked is None or head is None:
        return None
    revision, created = head.split()
    # How many characters of the hash git itself would give depends on the clone.
    version = (described or revision).replace(revision, revision[:_REVISION_CHARACTERS])
    return GitFacts(revision, int(created), version, web_address(source or ""))


def web_address(url: str) -> str:
    """Make one address of the several by which a repository is cloned: a person's ssh, a CI job's https."""
    plain = without_credentials(url)
    if "://" in plain:
        parts = urlsplit(plain)
        if parts.scheme not in _WEB_SCHEMES:
            if parts.scheme not in _CLONE_SCHEMES:
                return plain
            # The port is that of ssh or git, which tells nothing of the web's.
            parts = parts._replace(scheme="https", netloc=parts.hostname or "")
        plain = urlunsplit(parts)
    elif _SCP_LIKE.match(plain):
        host, _, path = plain.partition(":")
        plain = f"https://{host.rpartition('@')[2]}/{path.lstrip('/')}"
    else:
        return plain
    return plain.rstrip("/").removesuffix(".git")


def without_credentials(url: str) -> str:
    """Take passwords and tokens out of the address of a repository."""
    if "://" not in url:
        # git@host:path: the user is no secret, and a password cannot be written.
        return url if _SCP_LIKE.match(url) or not url.partition(":")[1] else url.rpartition("@")[2]
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme.endswith("ssh") and (user := parts.username):
        host = f"{user}@{host}"
    return urlunsplit(parts._replace(netloc=host, query="", fragment=""))


def own_labels(
    *,
    git: GitFacts | None,
    recipe: str,
    inputs: Mapping[str, InputRecord],
) -> dict[str, str]:
    """Make the labels of an image; those without a value are left out."""
    labels = {
        RECIPE_LABEL: recipe,
        INPUTS_LABEL: msgspec.json.encode(inputs, order="sorted").decode(),
    }
    if git is not None:
        created = datetime.fromtimestamp(git.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        labels |= {
            f"{_OCI}created": created,
            f"{_OCI}revision": git.revision,
            f"{_OCI}version": git.version,
            f"{_OCI}source": git.source,
        }
    return {name: value for name, value in sorted(labels.items()) if value}


def base_labels(bases: Sequence[Base], layers: Sequence[str] | None) -> dict[str, str]:
    """Name the base of an image: of those that its stages begin with, the one it shares most layers with.

    Args:
        bases: The images that stages begin with.
        layers: The layers of the image; None where they are not known yet: then any base may be it.
    """
    below = [base for base in bases if layers is None or _is_below(base.facts.diff_ids, layers)]
    if not below:
        return {}
    base = max(below, key=lambda base: len(base.facts.diff_ids))
    named = {f"{_OCI}base.name": base.name, f"{_OCI}base.digest": base.digest}
    return {label: value for label, value in named.items() if value}


def _is_below(base: Sequence[str], layers: Sequence[str]) -> bool:
    return bool(base) and tuple(layers[: len(base)]) == tuple(base)


def oci_annotations(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that are annotations of the manifest too."""
    return {name: value for name, value in labels.items() if name.startswith(_OCI)}


def not_inherited(bases: Sequence[Base]) -> frozenset[tuple[str, str]]:
    """The labels of the bases that are true only of them."""
    labels = (label for base in bases for label in base.facts.labels.items())
    return frozenset((name, value) for name, value in labels if name in OWN_LABELS)


async def _git(folder: Path, *arguments: str) -> str | None:
    completed = await process.run(
        ["git", "-C", str(folder), "--no-optional-locks", *arguments],
        timeout_seconds=_GIT_SECONDS_MAX,
        environment={name: text for name, text in os.environ.items() if name not in _UNSET},
    )
    return completed.output.decode(errors="replace").strip() if completed.exit_code == 0 else None
