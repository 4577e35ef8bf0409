"""Names of images as a job writes them: made whole, and refused where they are no registry's. Pure.

Podman would also take `dir:/etc`, `containers-storage:...` or an image id. A name that passed here can only
mean an image of a registry, or one of the local store under `localhost/`. The grammar is that of the
distribution project's `reference` package.
"""

import re
from typing import NamedTuple

NAME_CHARACTERS_MAX = 512

#: What podman also takes before a colon. Not `docker`, which is an image that jobs use.
_TRANSPORTS = frozenset(
    {"containers-storage", "dir", "docker-archive", "docker-daemon", "oci", "oci-archive", "sif"}
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?",
    re.ASCII,
)


class Reference(NamedTuple):
    """An image of a registry, or of the local store under `localhost/`."""

    #: As the job wrote it.
    written: str
    domain: str
    path: str
    tag: str
    digest: str

    @property
    def whole(self) -> str:
        """The name with nothing left to a default, as podman is given it."""
        # Podman refuses a name with both; the digest decides anyway.
        return f"{self.domain}/{self.path}" + (f"@{self.digest}" if self.digest else f":{self.tag}")

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which a pattern may mean this image."""
        return (self.whole, f"{self.domain}/{self.path}", self.written)

    @property
    def is_local(self) -> bool:
        """Whether no registry can have it."""
        return self.domain == "localhost"


def parse(written: str) -> Reference | None:
    """Read a name; None if it is not one of an image of a registry."""
    if len(written) > NAME_CHARACTERS_MAX:
        return None
    match = _REFERENCE.fullmatch(written)
    if match is None:
        return None
    domain, path = match["domain"] or "", match["path"]
    if not domain and path in _TRANSPORTS and match["tag"]:
        return None
    if domain and "." not in domain and ":" not in domain and domain != "localhost":
        # The first part of `library/alpine` is no host.
        if domain != domain.lower():
            return None
        domain, path = "", f"{domain}/{path}"
    if domain in {"", "index.docker.io", "docker.io"}:
        domain = "docker.io"
        path = path if "/" in path else f"library/{path}"
    digest = match["digest"] or ""
    return Reference(written, domain, path, match["tag"] or ("" if digest else "latest"), digest)
