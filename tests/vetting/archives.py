"""Layers as the bytes that a registry keeps."""

import gzip
import io
import tarfile


def layer(files: dict[str, str], *, packed: bool = True) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(data.getvalue()) if packed else data.getvalue()
