"""Image references in the grammar of the OCI distribution project, normalised as Docker and podman do.

Source of the rules: distribution/reference (`regexp.go`, `normalize.go`, `reference.go`). The one departure:
the implicit tag `latest` is added here, because two writings of one image must compare equal in a graph.
"""

import re
from functools import lru_cache

import msgspec

#: The registry that a name without a registry belongs to.
DEFAULT_DOMAIN = "docker.io"
#: The namespace of a one-part name on the default registry.
OFFICIAL_NAMESPACE = "library/"
#: The tag of a reference that has neither a tag nor a digest.
DEFAULT_TAG = "latest"
#: The longest repository name, registry included.
NAME_CHARACTERS_MAX = 255

_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_PATH_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*)"
    rf"(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?",
    re.ASCII,
)
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")
#: Hexadecimal digits that a digest of a known algorithm must have.
_DIGEST_HEX_CHARACTERS = {"sha256": 64, "sha384": 96, "sha512": 128}


class ReferenceError(ValueError):  # noqa: A001 - the builtin of this name is about weak references
    """A text that is not an image reference; the message says what is wrong with which text."""


class Reference(msgspec.Struct, frozen=True, order=True):
    """A normalised image reference. Make one with `parse_reference`."""

    #: Registry host, with its port if it has one: `docker.io`, `localhost:5000`.
    domain: str
    #: Repository path without the registry: `library/alpine`.
    path: str
    #: Tag; None only where there is a digest and no tag was written.
    tag: str | None
    #: Digest with its algorithm, `sha256:<hex>`, if the reference is pinned.
    digest: str | None

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest: `docker.io/library/alpine`."""
        return f"{self.domain}/{self.path}"

    @property
    def identity(self) -> str:
        """What names the image in a graph: the reference without its digest, where it has a tag."""
        return f"{self.name}:{self.tag}" if self.tag is not None else str(self)

    @property
    def familiar(self) -> str:
        """The short form that people write: `alpine`, `quay.io/org/base:1`."""
        full = str(self).removesuffix(f":{DEFAULT_TAG}")
        if self.domain != DEFAULT_DOMAIN:
            return full
        short = full.removeprefix(f"{DEFAULT_DOMAIN}/")
        official = short.removeprefix(OFFICIAL_NAMESPACE)
        # Only what is read as the same again: what is left may begin like a registry of its own.
        same = (DEFAULT_DOMAIN, short)
        return next((text for text in (official, short) if _split_domain(text) == same), full)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.domain}/{self.path}{tag}{digest}"


@lru_cache(maxsize=65_536)
def parse_reference(text: str) -> Reference:
    """Parse an image reference as written by people, and normalise it.

    Raises:
        ReferenceError: the text is not a reference.
    """
    if not text:
        raise ReferenceError(
            "an image reference is empty; write one like registry.example.com/group/base:latest"
        )
    if _IMAGE_ID.fullmatch(text):
        raise ReferenceError(
            f"invalid reference format: {text!r} is an image id; give the image a name and a tag"
        )
    domain, remainder = _split_domain(text)
    path_end = len(remainder)
    for separator in "@:":
        index = remainder.find(separator)
        if index >= 0:
            path_end = min(path_end, index)
    if remainder[:path_end] != remainder[:path_end].lower():
        raise ReferenceError(f"invalid reference format: the repository name of {text!r} must be lower-case")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise ReferenceError(f"invalid reference format: {text!r}")
    path, tag, digest = match["path"], match["tag"], match["digest"]
    if len(path) > NAME_CHARACTERS_MAX - len(domain) - 1:
        raise ReferenceError(
            f"invalid reference format: {text!r}: its name is longer than {NAME_CHARACTERS_MAX} characters"
        )
    if digest is not None:
        _check_digest(digest, text)
    if tag is None and digest is None:
        tag = DEFAULT_TAG
    return Reference(domain, path, tag, digest)


def _split_domain(text: str) -> tuple[str, str]:
    """Tell the registry from the repository: a first part is a host only if it looks like one."""
    first, slash, rest = text.partition("/")
    if slash and (first == "localhost" or any(mark in first for mark in ".:") or first != first.lower()):
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = OFFICIAL_NAMESPACE + remainder
    return domain, remainder


def _check_digest(digest: str, text: str) -> None:
    algorithm, _, value = digest.partition(":")
    characters = _DIGEST_HEX_CHARACTERS.get(algorithm)
    if characters is None:
        raise ReferenceError(
            f"invalid reference format: {text!r}: unsupported digest algorithm {algorithm!r}; use sha256"
        )
    if len(value) != characters or value != value.lower():
        raise ReferenceError(
            f"invalid reference format: {text!r}: a {algorithm} digest has {characters} lower-case hex digits"
        )
