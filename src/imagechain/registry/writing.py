"""Writing to one repository: manifests, blobs, tags (OCI distribution-spec 1.1, "Push").

What is safe to repeat is repeated: a manifest (the same bytes under the same name), the begin of an upload, a
mount, a deletion. A stream is not: whoever gave it has to begin again. Nothing is written under a name before
all that it needs is there, and nothing is kept whose digest was not checked here first.
"""

from collections.abc import AsyncIterable
from typing import Literal
from urllib.parse import quote, urljoin, urlsplit

from imagechain.registry.access import Call
from imagechain.registry.complaint import codes_of, complaint_of, is_of_registry
from imagechain.registry.errors import (
    AbsentError,
    DeniedError,
    PartsMissingError,
    RefusedError,
    ServerFailedError,
    UntrustedReplyError,
)
from imagechain.registry.http import Method, Reply, stream_seconds_max
from imagechain.registry.manifest import OCI_INDEX, Descriptor, digest_of, is_digest, referrers_tag
from imagechain.registry.referrers import add_referrer, subject_of
from imagechain.registry.repository import BLOB_BYTES_MAX, MANIFEST_BYTES_MAX, Repository

#: Longest answer to a request that writes.
_REPLY_BYTES_MAX = 64 * 1024
#: How registries answer that delete no tags, or nothing at all.
_NO_DELETION = frozenset({400, 405, 501})
#: What a registry says when parts of a manifest are not in the repository.
_PARTS_MISSING = frozenset({"MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"})
_OCTETS = {"Content-Type": "application/octet-stream"}


class WritableRepository(Repository):
    """Reads and writes one repository."""

    async def put_manifest(self, target: str, raw: bytes, media_type: str) -> str:
        """Put a manifest under a tag or its digest; return its digest.

        Raises:
            PartsMissingError: the repository lacks something that the manifest names.
            DeniedError: the login may not write there.
            RefusedError: the registry does not take it.
        """
        digest = digest_of(raw, target if is_digest(target) else "sha256:")
        if is_digest(target) and digest != target:
            raise ValueError(f"a manifest with the digest {digest} cannot be put under {target}")
        if len(raw) > MANIFEST_BYTES_MAX:
            problem = f"its manifest has more than {MANIFEST_BYTES_MAX} bytes"
            raise RefusedError(self._subject, problem, "name fewer images in it")
        reply = await self._write(
            "PUT", f"/manifests/{target}", body=raw, headers={"Content-Type": media_type}
        )
        if reply.status in {400, 404} and codes_of(reply) & _PARTS_MISSING:
            problem = f"{self._endpoint.domain} has not all parts of it{complaint_of(reply)}"
            raise PartsMissingError(self._subject, problem, "push the image there first")
        self._check_written(reply)
        said = reply.headers.get("docker-content-digest", digest)
        if said != digest:
            problem = f"{self._endpoint.domain} stored {said} instead of {digest}"
            raise UntrustedReplyError(self._subject, problem, "ask the registry's administrator")
        subject = subject_of(raw)
        if subject and "oci-subject" not in reply.headers:
            await self._list_referrer(subject, raw, Descriptor(media_type=media_type, digest=digest))
        return digest

    async def _list_referrer(self, subject: str, raw: bytes, descriptor: Descriptor) -> None:
        """Keep the list of referrers for a registry that does not."""
        tag = referrers_tag(subject)
        try:
            listed = (await self.manifest(tag)).raw
        except AbsentError:
            listed = None
        longer = add_referrer(listed, raw, descriptor)
        if longer is not None:
            await self.put_manifest(tag, longer, OCI_INDEX)

    async def has_blob(self, digest: str) -> bool:
        """Tell whether a blob is in the repository."""
        reply = await self._request(f"/blobs/{digest}", _REPLY_BYTES_MAX, method="HEAD", is_paced=False)
        if reply.status == 404:
            # A HEAD has no body to bear the marks of a registry; a wrong "no" costs only an upload.
            return False
        self._check(reply)
        return True

    async def begin_upload(self, mount: str = "", source_path: str = "") -> str | None:
        """Begin to upload a blob; return where it goes on.

        Args:
            mount: digest of a blob that another repository of the registry has, and that is taken from there
                if the registry does so; then nothing goes on (None).
            source_path: that repository.
        """
        query = f"?mount={quote(mount)}&from={quote(source_path)}" if mount else ""
        reply = await self._write("POST", f"/blobs/uploads/{query}", pull_from=source_path)
        self._check_written(reply)
        return None if mount and reply.status == 201 else self._location(reply)

    async def upload(self, location: str, digest: str, data: bytes) -> None:
        """Upload a small blob in one piece, where `begin_upload` said."""
        url = _with_digest(location, digest)
        reply = await self._write("PUT", url, body=data, headers=_OCTETS, attempts_max=1)
        self._check_written(reply)

    async def upload_stream(
        self, location: str, descriptor: Descriptor, chunks: AsyncIterable[bytes]
    ) -> None:
        """Upload a blob as a stream, which has been checked when it ends, where `begin_upload` said.

        Only then is the upload completed: a stream that breaks off leaves nothing.
        """
        headers = dict(_OCTETS)
        if descriptor.size is not None:
            headers["Content-Length"] = str(descriptor.size)
        seconds_max = stream_seconds_max(descriptor.size or BLOB_BYTES_MAX)
        reply = await self._write(
            "PATCH",
            location,
            body=chunks,
            headers=headers,
            attempts_max=1,
            seconds_max=seconds_max,
        )
        if reply.status == 401:
            problem = f"{self._endpoint.domain} wants another login in the middle of an upload"
            raise ServerFailedError(self._subject, problem, "push it again")
        self._check_written(reply)
        # The registry computes the digest of what it took, which may take as long as taking it.
        url = _with_digest(self._location(reply), descriptor.digest)
        reply = await self._write("PUT", url, headers=_OCTETS, attempts_max=1, seconds_max=seconds_max)
        self._check_written(reply)

    async def delete(self, target: str) -> None:
        """Delete a tag, or a manifest by its digest with all its tags.

        Raises:
            AbsentError: there is none.
            RefusedError: the registry deletes none.
        """
        reply = await self._write("DELETE", f"/manifests/{target}", actions="delete")
        if reply.status in _NO_DELETION:
            problem = f"{self._endpoint.domain} does not delete {target}{complaint_of(reply)}"
            raise RefusedError(self._subject, problem, "delete it in the registry's own way")
        if reply.status == 404:
            self._check(reply)
        self._check_written(reply)

    def _location(self, reply: Reply) -> str:
        location = urljoin(f"{self._endpoint.url}/blobs/uploads/", reply.headers.get("location", ""))
        if not self._endpoint.insecure and urlsplit(location).scheme != "https":
            problem = f"{self._endpoint.domain} lets an upload go on without TLS"
            remedy = "ask the registry's administrator: behind a proxy it has to know its own address"
            raise UntrustedReplyError(self._subject, problem, remedy)
        return location

    async def _write(
        self,
        method: Method,
        path: str,
        *,
        body: bytes | AsyncIterable[bytes] = b"",
        headers: dict[str, str] | None = None,
        actions: Literal["pull,push", "delete"] = "pull,push",
        pull_from: str = "",
        attempts_max: int | None = None,
        seconds_max: float | None = None,
    ) -> Reply:
        call = Call(
            method=method,
            path=path,
            headers=headers or {},
            body=body,
            reply_bytes_max=_REPLY_BYTES_MAX,
            seconds_max=seconds_max,
            actions=actions,
            pull_from=pull_from,
            # Pushing is bounded by its connections; only questions are counted.
            is_paced=False,
            subject=self._subject,
            attempts_max=attempts_max or self._attempts_max,
        )
        return await self._access.request(self._endpoint, call)

    def _check_written(self, reply: Reply) -> None:
        domain, said = self._endpoint.domain, complaint_of(reply)
        if 200 <= reply.status < 300:
            return
        if reply.status in {401, 403}:
            problem = f"{domain} does not let this login write (status {reply.status}){said}"
            remedy = (
                f"log in with one that may write to {self._endpoint} (`podman login {domain}`; a deploy "
                "token needs write_registry; a CI job token writes to the registry of its own project only)"
            )
            raise DeniedError(self._subject, problem, remedy)
        if reply.status == 404:
            if "BLOB_UPLOAD_UNKNOWN" in codes_of(reply):
                raise ServerFailedError(self._subject, f"{domain} lost an upload{said}", "push it again")
            if is_of_registry(reply):
                problem = f"{domain} has no place for {self._endpoint}{said}"
                raise AbsentError(self._subject, problem, "make the repository there first")
            problem = f"{domain} answers 404, but not as a registry does"
            raise UntrustedReplyError(self._subject, problem, "check that the name is of a registry")
        problem = f"{domain} does not take it (status {reply.status}){said}"
        raise RefusedError(
            self._subject, problem, "see its settings: it may be read-only, or the tag immutable"
        )


def _with_digest(location: str, digest: str) -> str:
    """Complete the address of an upload, which may have a query of its own."""
    return f"{location}{'&' if '?' in location else '?'}digest={quote(digest)}"
