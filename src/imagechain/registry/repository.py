"""One repository at one host: what the OCI distribution protocol can tell of it (its `spec.md`, 1.1).

Only reads; `writing` writes.

Every reply is checked before it is believed: a digest against the bytes it names, a 404 for the marks of a
registry (a proxy or a parked domain answers 404 too, and that is not "absent").
"""

import hashlib
import re
from email.utils import parsedate_to_datetime

import msgspec

from imagechain.registry.access import ATTEMPTS_MAX, Access, Call
from imagechain.registry.cache import Cache
from imagechain.registry.complaint import is_of_registry
from imagechain.registry.credentials import login_hint
from imagechain.registry.errors import AbsentError, DeniedError, UnexpectedReplyError, UntrustedReplyError
from imagechain.registry.http import Method, Reply, Sink, stream_seconds_max
from imagechain.registry.manifest import (
    ACCEPT,
    OCI_INDEX,
    Descriptor,
    Index,
    IndexEntry,
    Manifest,
    ManifestError,
    decode_manifest,
    digest_of,
    is_digest,
    media_type_of,
    referrers_tag,
)
from imagechain.registry.mirrors import Endpoint

MANIFEST_BYTES_MAX = 4 * 1024 * 1024
#: Largest blob whose size nobody told.
BLOB_BYTES_MAX = 16 * 1024 * 1024 * 1024
REFERRER_PAGES_MAX = 100
TAGS_PER_PAGE = 1_000
#: A list of tags that is longer is refused, not cut.
TAGS_MAX = 100_000
TAG_PAGES_MAX = 1_000
_TAGS_BYTES_MAX = 4 * 1024 * 1024
#: A registry that could not answer a HEAD is asked for one again after this time: a GET may count as a pull.
HEAD_AGAIN_SECONDS = 3600.0

#: How registries and proxies say that they dislike a HEAD which they would answer as a GET.
_HEAD_REFUSED = frozenset({400, 403, 405, 501})
#: How registries answer that do not know the API of referrers.
_NO_REFERRERS_API = frozenset({400, 404, 405, 501})
_NEXT_LINK = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')
_ASK_ADMINISTRATOR = "ask the registry's administrator"


class _TagList(msgspec.Struct, frozen=True):
    tags: list[str] | None = None


_tags_decoder = msgspec.json.Decoder(_TagList)


class Repository:
    """Asks for what is in one repository. Nothing but its arguments is kept."""

    def __init__(
        self,
        access: Access,
        endpoint: Endpoint,
        *,
        subject: str,
        without_head: Cache[str, bool],
        manifests: Cache[str, Manifest | Index],
        attempts_max: int = ATTEMPTS_MAX,
    ) -> None:
        """Prepare.

        Args:
            access: the way to the registries.
            endpoint: the repository.
            subject: what is asked for, in messages.
            without_head: origins of registries that answer no HEAD; shared by all repositories.
            manifests: what was read, by digests, which never change; shared by all repositories, so that
                whoever asks next for the same one costs no pull.
            attempts_max: how often a request is tried.
        """
        self._access = access
        self._endpoint = endpoint
        self._subject = subject
        self._without_head = without_head
        self._manifests = manifests
        self._attempts_max = attempts_max

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        return self._endpoint

    async def head(self, target: str) -> Descriptor:
        """Tell what a tag or digest names, by a HEAD where the registry answers it."""
        path, origin = f"/manifests/{target}", self._endpoint.origin
        if self._without_head.get(origin) is None:
            reply = await self._request(path, MANIFEST_BYTES_MAX, method="HEAD", accept=ACCEPT)
            if reply.status == 200:
                if (descriptor := self._described(reply, target)) is not None:
                    return descriptor
            elif reply.status not in _HEAD_REFUSED and (reply.status != 404 or is_of_registry(reply)):
                self._check(reply)
        manifest = await self._fetch(target)
        self._without_head.put(origin, True, seconds=HEAD_AGAIN_SECONDS)
        return manifest.descriptor

    async def manifest(self, target: str) -> Manifest | Index:
        """Fetch what a tag or digest names; of a digest, as it was read before.

        Whether it is in this repository, then only `head` tells.
        """
        return self._manifests.get(target) or await self._fetch(target)

    async def _fetch(self, target: str) -> Manifest | Index:
        reply = await self._request(f"/manifests/{target}", MANIFEST_BYTES_MAX, accept=ACCEPT, pull=True)
        self._check(reply)
        said = reply.headers.get("docker-content-digest", "")
        digest = target if is_digest(target) else said if is_digest(said) else digest_of(reply.body)
        self._check_bytes(reply.body, digest)
        try:
            found = decode_manifest(reply.body, reply.headers.get("content-type", ""), digest)
        except ManifestError as error:
            raise UntrustedReplyError(self._subject, str(error), _ASK_ADMINISTRATOR) from error
        self._manifests.put(digest, found, weight=len(found.raw))
        return found

    async def has_manifest(self, digest: str) -> bool:
        """Tell whether a manifest is in the repository."""
        try:
            await self.head(digest)
        except AbsentError:
            return False
        return True

    async def blob(self, digest: str, bytes_max: int) -> bytes:
        """Fetch a small blob."""
        reply = await self._request(f"/blobs/{digest}", bytes_max, is_paced=False)
        self._check(reply)
        self._check_bytes(reply.body, digest)
        return reply.body

    async def blob_modified_at(self, digest: str) -> float | None:
        """Tell when a blob came to the registry, Unix seconds; None where the registry does not say."""
        reply = await self._request(f"/blobs/{digest}", 0, method="HEAD", is_paced=False)
        self._check(reply)
        try:
            return parsedate_to_datetime(reply.headers.get("last-modified", "")).timestamp()
        except ValueError:
            return None

    async def stream_blob(self, descriptor: Descriptor, sink: Sink) -> None:
        """Hand a blob on piece by piece; it is as long as its descriptor says, and what its digest says.

        That is known only at the end: the sink has to be able to forget what it took.

        Raises:
            UntrustedReplyError: it was something else.
        """
        size = BLOB_BYTES_MAX if descriptor.size is None else descriptor.size
        hasher = hashlib.new(descriptor.digest.partition(":")[0])

        async def hashing(chunk: bytes) -> None:
            hasher.update(chunk)
            await sink(chunk)

        reply = await self._request(
            f"/blobs/{descriptor.digest}",
            size,
            sink=hashing,
            seconds_max=stream_seconds_max(size),
            is_paced=False,
            attempts_max=1,
        )
        self._check(reply)
        if hasher.hexdigest() != descriptor.digest.partition(":")[2]:
            problem = f"{self._endpoint.domain} sent other bytes as {descriptor.digest}"
            raise UntrustedReplyError(self._subject, problem, _ASK_ADMINISTRATOR)

    async def referrers(self, digest: str) -> tuple[IndexEntry, ...]:
        """List what says that it is about a manifest: signatures, attestations, lists of packages.

        Asks the API for it, or where there is none reads the tag that stands for it (distribution-spec 1.1).
        """
        found: list[IndexEntry] = []
        query = ""
        for _ in range(REFERRER_PAGES_MAX):
            reply = await self._request(f"/referrers/{digest}{query}", MANIFEST_BYTES_MAX, accept=OCI_INDEX)
            if reply.status in _NO_REFERRERS_API and not query:
                return await self._tagged_referrers(digest)
            self._check(reply)
            try:
                page = decode_manifest(reply.body, OCI_INDEX, digest_of(reply.body))
            except ManifestError as error:
                raise UntrustedReplyError(self._subject, str(error), _ASK_ADMINISTRATOR) from error
            found += page.entries if isinstance(page, Index) else ()
            link = _NEXT_LINK.search(reply.headers.get("link", ""))
            if link is None:
                return tuple(found)
            query = f"?{link[1].partition('?')[2]}"
        problem = f"its list of referrers does not end within {REFERRER_PAGES_MAX} pages"
        raise UntrustedReplyError(self._subject, problem, _ASK_ADMINISTRATOR)

    async def _tagged_referrers(self, digest: str) -> tuple[IndexEntry, ...]:
        try:
            found = await self.manifest(referrers_tag(digest))
        except AbsentError:
            return ()
        return found.entries if isinstance(found, Index) else ()

    async def tags(self) -> list[str]:
        """List the tags, page by page."""
        found: list[str] = []
        query = f"n={TAGS_PER_PAGE}"
        for _ in range(TAG_PAGES_MAX):
            reply = await self._request(f"/tags/list?{query}", _TAGS_BYTES_MAX)
            self._check(reply)
            page = self._decode_tags(reply)
            found += page
            link = _NEXT_LINK.search(reply.headers.get("link", ""))
            if link is None:
                return found
            if not page or len(found) > TAGS_MAX:
                break
            # Only the query is taken from the link, so that it cannot lead the login anywhere else.
            query = link[1].partition("?")[2]
        problem = f"its list of tags does not end within {TAGS_MAX} tags and {TAG_PAGES_MAX} pages"
        raise UntrustedReplyError(self._subject, problem, "remove old tags")

    def _decode_tags(self, reply: Reply) -> list[str]:
        try:
            return _tags_decoder.decode(reply.body).tags or []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problem = f"its list of tags cannot be read: {error}"
            raise UntrustedReplyError(self._subject, problem, _ASK_ADMINISTRATOR) from error

    async def _request(
        self,
        path: str,
        reply_bytes_max: int,
        *,
        method: Method = "GET",
        accept: str = "",
        pull: bool = False,
        sink: Sink | None = None,
        seconds_max: float | None = None,
        is_paced: bool = True,
        attempts_max: int | None = None,
    ) -> Reply:
        call = Call(
            method=method,
            path=path,
            headers={"Accept": accept} if accept else {},
            reply_bytes_max=reply_bytes_max,
            sink=sink,
            seconds_max=seconds_max,
            pull=pull,
            is_paced=is_paced,
            subject=self._subject,
            attempts_max=attempts_max or self._attempts_max,
        )
        return await self._access.request(self._endpoint, call)

    def _described(self, reply: Reply, target: str) -> Descriptor | None:
        """Read what a HEAD said; None: it named no digest, as old registries do."""
        digest = reply.headers.get("docker-content-digest", "")
        if not is_digest(digest):
            return None
        if is_digest(target) and target != digest:
            problem = f"{self._endpoint.domain} answers with {digest} when asked for {target}"
            raise UntrustedReplyError(self._subject, problem, _ASK_ADMINISTRATOR)
        size = reply.headers.get("content-length", "")
        return Descriptor(
            media_type=media_type_of(reply.headers.get("content-type", "")),
            digest=digest,
            size=int(size) if size.isascii() and size.isdigit() else None,
        )

    def _check(self, reply: Reply) -> None:
        domain = self._endpoint.domain
        if reply.status == 200:
            return
        if reply.status == 404:
            if is_of_registry(reply):
                raise AbsentError(self._subject, f"{domain} has no such image", "check the name and the tag")
            problem = f"{domain} answers 404, but not as a registry does"
            raise UntrustedReplyError(self._subject, problem, "check that the name is of a registry")
        if reply.status in {401, 403}:
            problem = f"{domain} denies access (status {reply.status})"
            remedy = f"check the name, or {login_hint(domain)} with a login that may read it"
            raise DeniedError(self._subject, problem, remedy)
        problem = f"{domain} answers with the unexpected status {reply.status}"
        raise UnexpectedReplyError(self._subject, problem, "is it a registry? If so, please report this")

    def _check_bytes(self, data: bytes, digest: str) -> None:
        found = digest_of(data, digest)
        if found != digest:
            problem = f"{self._endpoint.domain} sent bytes whose digest is {found} as {digest}"
            raise UntrustedReplyError(self._subject, problem, _ASK_ADMINISTRATOR)
