"""The values that a CI configuration is read into."""

from collections.abc import Mapping
from typing import Literal

import msgspec

IncludeKind = Literal["project", "component", "template", "remote"]


class CiConfigError(ValueError):
    """A CI configuration that cannot be read; the message says what is wrong with it."""

    def __init__(self, message: str, *, file: str, line: int) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.message = message
        #: Path of the file, from the repository's top folder.
        self.file = file
        #: Line, from 1.
        self.line = line


class CiImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that jobs of a file run in, or that serves them; one for each value that it may have."""

    kind: Literal["ci-image", "ci-service"]
    #: The job that runs in it, the first of those in one file; empty if only the defaults name it.
    job: str
    #: The file in which the job stands.
    job_file: str
    #: As far as its variables are known; the others stay as they are written (`$CI_REGISTRY_IMAGE/base`).
    pattern: str
    #: Whether all its variables are known, so that `pattern` is the image's name.
    resolved: bool
    #: Where the image is named: elsewhere, if the job has it from the defaults or by `extends`.
    file: str
    #: Line of the `image:` key, or of the service.
    line: int


class CiInclude(msgspec.Struct, frozen=True, kw_only=True):
    """A file of another project that is part of the configuration, and was not read."""

    kind: IncludeKind
    #: Path of the project, `<server>/<path>/<component>`, name of the template, or URL.
    location: str
    #: Branch, tag or version; empty where none is written.
    ref: str
    #: File of the project; empty for the other kinds.
    path: str
    file: str
    line: int


class CiWarning(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the configuration that could not be followed; the rest was read."""

    message: str
    file: str
    line: int


class CiBuildArguments(msgspec.Struct, frozen=True, kw_only=True):
    """What the image builds of one job may be given, for one combination of its matrix."""

    #: By the name of the argument: what its script passes by `--build-arg`, and the job's variables.
    values: Mapping[str, str]
    #: The file in which the job stands.
    file: str


class CiConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A CI configuration, as far as it speaks of images."""

    images: tuple[CiImage, ...] = ()
    includes: tuple[CiInclude, ...] = ()
    #: Without doubles.
    build_arguments: tuple[CiBuildArguments, ...] = ()
    #: Names of the images that jobs build with `imagechain image build`, below the project's registry.
    built: tuple[str, ...] = ()
    warnings: tuple[CiWarning, ...] = ()
