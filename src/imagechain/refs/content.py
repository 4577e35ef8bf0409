"""Content keys: two images with one content key run alike, whatever their digests are.

The key covers the ordered layer diff ids and the part of the config that a running container can notice.
Times, history and labels are left out, so that a rebuild which changed nothing keeps the key, and the
cascade below it stops.
"""

import hashlib

import msgspec

#: Changed together with what goes into the key, so that keys of two rules are never taken for equal.
CONTENT_KEY_VERSION = "1"


class _Healthcheck(msgspec.Struct, frozen=True, omit_defaults=True):
    test: tuple[str, ...] = msgspec.field(default=(), name="Test")
    interval: int = msgspec.field(default=0, name="Interval")
    timeout: int = msgspec.field(default=0, name="Timeout")
    start_period: int = msgspec.field(default=0, name="StartPeriod")
    start_interval: int = msgspec.field(default=0, name="StartInterval")
    retries: int = msgspec.field(default=0, name="Retries")


class _RunConfig(msgspec.Struct, frozen=True):
    env: tuple[str, ...] | None = msgspec.field(default=None, name="Env")
    entrypoint: tuple[str, ...] | None = msgspec.field(default=None, name="Entrypoint")
    cmd: tuple[str, ...] | None = msgspec.field(default=None, name="Cmd")
    user: str = msgspec.field(default="", name="User")
    working_dir: str = msgspec.field(default="", name="WorkingDir")
    volumes: dict[str, msgspec.Raw] | None = msgspec.field(default=None, name="Volumes")
    exposed_ports: dict[str, msgspec.Raw] | None = msgspec.field(default=None, name="ExposedPorts")
    stop_signal: str = msgspec.field(default="", name="StopSignal")
    healthcheck: _Healthcheck | None = msgspec.field(default=None, name="Healthcheck")
    shell: tuple[str, ...] | None = msgspec.field(default=None, name="Shell")
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")
    on_build: tuple[str, ...] | None = msgspec.field(default=None, name="OnBuild")


class _RootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] = ()


class HistoryEntry(msgspec.Struct, frozen=True):
    """How one layer, or an instruction without one, came to be."""

    created_by: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True):
    """The parts of an OCI image config (image-spec, `config.md`) that imagechain reads.

    Docker's config has the same shape, with `Healthcheck`, `Shell` and `OnBuild` on top of OCI's fields.
    """

    architecture: str = ""
    os: str = ""
    variant: str = ""
    config: _RunConfig = _RunConfig()
    rootfs: _RootFs = _RootFs()
    #: RFC 3339; whatever the publisher wrote.
    created: str | None = None
    history: tuple[HistoryEntry, ...] | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The image's labels."""
        return self.config.labels or {}

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Digests of the uncompressed layers, the lowest first."""
        return self.rootfs.diff_ids

    @property
    def on_build(self) -> tuple[str, ...]:
        """Instructions that run in the build of each child, as written."""
        return self.config.on_build or ()


_decoder = msgspec.json.Decoder(ImageConfig)


def decode_image_config(data: bytes | str) -> ImageConfig:
    """Decode an image config blob.

    Raises:
        ValueError: the bytes are not an image config; the message names the field.
    """
    return _decoder.decode(data)


def content_key(config: ImageConfig) -> str:
    """Hash what a running container can notice of an image, as `sha256:<hex>`."""
    run = config.config
    noticed = (
        CONTENT_KEY_VERSION,
        config.diff_ids,
        config.os,
        config.architecture,
        config.variant,
        run.env or (),
        run.entrypoint or (),
        run.cmd or (),
        run.user,
        run.working_dir,
        sorted(run.volumes or ()),
        sorted(run.exposed_ports or ()),
        run.stop_signal,
        run.healthcheck,
        run.shell or (),
        # No running container notices ONBUILD, but the build of every child does.
        run.on_build or (),
    )
    return "sha256:" + hashlib.sha256(msgspec.json.encode(noticed, order="deterministic")).hexdigest()
