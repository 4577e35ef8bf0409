"""A client for registries (OCI distribution protocol): digests by HEAD, configs and content keys, tags.

Knows nothing of chains or GitLab. `RegistryClient` is the way in; `errors` draws what can go wrong.
"""

from imagechain.registry.client import RegistryClient
from imagechain.registry.copying import Copied, Copier
from imagechain.registry.credentials import Credential, usual_auth_files
from imagechain.registry.errors import (
    AbsentError,
    BlockedError,
    ConfigurationError,
    DeniedError,
    DownError,
    NotAnImageError,
    PartsMissingError,
    PlatformAbsentError,
    RateLimitedError,
    RefusedError,
    RegistryError,
    ServerFailedError,
    UncheckedError,
    UnexpectedReplyError,
    UnreachableError,
    UntrustedReplyError,
)
from imagechain.registry.manifest import Descriptor, Index, IndexEntry, Manifest, RemoteImage
from imagechain.registry.mirrors import Registries, read_registries
from imagechain.registry.repository import Repository
from imagechain.registry.writing import WritableRepository

__all__ = [
    "AbsentError",
    "BlockedError",
    "ConfigurationError",
    "Copied",
    "Copier",
    "Credential",
    "DeniedError",
    "Descriptor",
    "DownError",
    "Index",
    "IndexEntry",
    "Manifest",
    "NotAnImageError",
    "PartsMissingError",
    "PlatformAbsentError",
    "RateLimitedError",
    "RefusedError",
    "Registries",
    "RegistryClient",
    "RegistryError",
    "RemoteImage",
    "Repository",
    "ServerFailedError",
    "UncheckedError",
    "UnexpectedReplyError",
    "UnreachableError",
    "UntrustedReplyError",
    "WritableRepository",
    "read_registries",
    "usual_auth_files",
]
