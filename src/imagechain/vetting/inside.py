"""Reads what is inside images: a few files of their layers, and which of their packages are behind."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from imagechain.refs import Reference
from imagechain.registry import Descriptor, RegistryClient
from imagechain.registry.http import Sink
from imagechain.together import together
from imagechain.vetting import sources
from imagechain.vetting.archive import Archive
from imagechain.vetting.layers import (
    APK_INSTALLED,
    DPKG_STATUS,
    DPKG_STATUS_FOLDER,
    LAYER_BYTES_MAX,
    LayerError,
    LayerFiles,
    read_layer,
    stack,
    under,
)
from imagechain.vetting.packages import (
    Lagging,
    architecture_of,
    is_any_known,
    lagging_alpine,
    lagging_debian,
    read_apk,
    read_dpkg_status,
)

#: Layers that are fetched at once; each may take `LAYER_BYTES_MAX` on disk.
_LAYERS_PARALLEL_MAX = 2


class Inside:
    """Reads layers, each once for all images that share it."""

    def __init__(self, client: RegistryClient, archive: Archive) -> None:
        self._client = client
        self._archive = archive
        self._slots = asyncio.Semaphore(_LAYERS_PARALLEL_MAX)
        self._read: dict[str, asyncio.Task[LayerFiles]] = {}

    async def files(self, reference: Reference, layers: Sequence[Descriptor]) -> dict[str, str]:
        """Give those files that vetting reads, as a container with these layers would see them.

        Raises:
            RegistryError: a layer cannot be had.
            LayerError: a layer cannot be read.
        """
        return stack(await together(*(self._layer(reference, layer) for layer in layers)))

    async def lagging(self, files: Mapping[str, str]) -> list[Lagging]:
        """List the packages that are behind the archives that the files name.

        Raises:
            LayerError: there is nothing to compare, or nothing to compare with.
            ArchiveError: an archive does not tell.
        """
        apk = next((files[name] for name in APK_INSTALLED if name in files), None)
        is_alpine = apk is not None
        if apk is not None:
            installed = read_apk(apk)
        else:
            texts = (files.get(DPKG_STATUS, ""), *under(files, DPKG_STATUS_FOLDER))
            installed = [package for text in texts for package in read_dpkg_status(text)]
        if not installed:
            raise LayerError("it holds neither dpkg's nor apk's list of packages")
        find = sources.alpine_indexes if is_alpine else sources.debian_indexes
        addresses = find(files, architecture_of(installed))
        if not addresses:
            raise LayerError("its files name no package archive to compare with")
        indexes = await self._archive.indexes(addresses, is_alpine=is_alpine)
        if not is_any_known(installed, indexes):
            # An archive of something else, or one that was emptied: that nothing is behind it means nothing.
            raise LayerError(f"none of its {len(installed)} packages is in the indexes that it names")
        return (lagging_alpine if is_alpine else lagging_debian)(installed, indexes)

    async def _layer(self, reference: Reference, layer: Descriptor) -> LayerFiles:
        if layer.digest not in self._read:
            self._read[layer.digest] = asyncio.create_task(self._fetch_layer(reference, layer))
        return await asyncio.shield(self._read[layer.digest])

    async def _fetch_layer(self, reference: Reference, layer: Descriptor) -> LayerFiles:
        if layer.size is None or layer.size > LAYER_BYTES_MAX:
            raise LayerError(
                f"layer {layer.digest} is larger than {LAYER_BYTES_MAX} bytes, or hides its size"
            )
        async with self._slots:
            try:
                with tempfile.TemporaryDirectory(prefix="imagechain-vet-") as folder:
                    path = Path(folder) / "layer"
                    with path.open("wb") as file:
                        await self._client.direct(reference).stream_blob(layer, _write_to(file))
                    return await asyncio.to_thread(read_layer, path)
            except LayerError as error:
                raise LayerError(f"layer {layer.digest}: {error}") from error
            except OSError as error:
                raise _no_room(error) from error


def _write_to(file: BinaryIO) -> Sink:
    async def sink(chunk: bytes) -> None:
        try:
            file.write(chunk)
        except OSError as error:
            # The client would take it for a failure of the connection.
            raise _no_room(error) from error

    return sink


def _no_room(error: OSError) -> LayerError:
    return LayerError(
        f"it cannot be kept while it is read: {error.strerror}; let TMPDIR name a folder with room"
    )
