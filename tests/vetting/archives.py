"""Layers as the bytes that a registry keeps, and archives of packages as their servers have them."""

import contextlib
import gzip
import http.server
import io
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

if sys.version_info >= (3, 14):
    from compression.zstd import compress
else:
    from backports.zstd import compress

Pack = Callable[[bytes], bytes]


def tar(files: Mapping[str, str | bytes], *, ends: bool = True) -> bytes:
    """Make a tar archive; one without an end is cut after its last file, as `abuild-tar --cut` does it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            body = content.encode() if isinstance(content, str) else content
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
        size = archive.offset
    return data.getvalue() if ends else data.getvalue()[:size]


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def as_it_is(data: bytes) -> bytes:
    return data


def zstd(data: bytes) -> bytes:
    return compress(data)


def in_parts(pack: Pack) -> Pack:
    """Pack each block of a tar archive by itself, as layers are that are pulled file by file (eStargz)."""
    return lambda data: b"".join(pack(data[at : at + 512]) for at in range(0, len(data), 512))


def chunked(data: bytes) -> bytes:
    """Write frames as zstd:chunked does: the table of contents stands in a frame that is skipped."""
    skipped = b"\x50\x2a\x4d\x18" + (8).to_bytes(4, "little") + b"contents"
    return skipped + in_parts(zstd)(data) + skipped


def layer(files: Mapping[str, str], *, pack: Pack = gz) -> bytes:
    return pack(tar(files))


def apkindex(packages: str, *, description: str = "v3.21.3-100-g0123456789a") -> bytes:
    """Make an index as `apk index` writes it."""
    return gz(tar({"DESCRIPTION": description, "APKINDEX": packages}))


def signed(index: bytes, folder: Path) -> bytes:
    """Sign an index as `abuild-sign` does: a tar archive without an end is put in front of it."""
    key, unsigned = folder / "key.pem", folder / "APKINDEX.tar.gz"
    unsigned.write_bytes(index)
    if not key.exists():
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    signature = subprocess.run(
        ["openssl", "dgst", "-sha1", "-sign", key, unsigned], check=True, capture_output=True
    ).stdout
    name = ".SIGN.RSA.alpine-devel@lists.alpinelinux.org-6165ee59.rsa.pub"
    return gz(tar({name: signature}, ends=False)) + index


@contextlib.contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[str]:
    """Serve files by their paths, on loopback; give the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
