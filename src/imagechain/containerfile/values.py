"""What reading a Containerfile gives: its images, its stages, and what is wrong with it."""

from typing import Literal, Self

import msgspec

Dialect = Literal["buildkit", "buildah"]
ImageKind = Literal["from", "copy-from", "mount-from", "onbuild", "syntax"]


class ContainerfileError(ValueError):
    """A Containerfile that no build accepts.

    The message uses the key words of the builder's own, so that a search for one finds the other.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message, line)
        self.message = message
        #: First line of the instruction, from 1; None where the whole file is meant.
        self.line = line

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"

    def at(self, line: int) -> Self:
        """Give the error its line, if it has none yet."""
        return self if self.line is not None else type(self)(self.message, line)


class ImageDependency(msgspec.Struct, frozen=True, kw_only=True):
    """One place of the file that names an image or a stage to build from."""

    kind: ImageKind
    #: As it stands in the file.
    written: str
    #: First line of the instruction, from 1.
    line: int
    #: Number of the stage it stands in; None for `syntax`.
    stage: int | None
    stage_name: str | None
    #: Of `FROM --platform`, expanded and normalised.
    platform: str | None = None
    #: Normalised reference, digest kept; None for a stage, `scratch`, and what cannot be known.
    image: str | None = None
    #: Number of the stage that is meant.
    of_stage: int | None = None
    #: Whether the empty base is meant.
    scratch: bool = False
    #: Whether the build of the target reaches it.
    needed: bool = False


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the file, whether the target needs it or not."""

    #: In lower case, as BuildKit compares it; as written in buildah's dialect.
    name: str | None
    line: int
    needed: bool


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """An `ONBUILD` of the target: an instruction that runs in the build of each child."""

    #: The instruction as the image's config keeps it.
    instruction: str
    line: int
    #: Whether it copies from, or mounts, the child's build context.
    reads_context: bool
    #: Images and stages of the child that it names, all with the kind `copy-from` or `mount-from`.
    dependencies: tuple[ImageDependency, ...]


class Warning(msgspec.Struct, frozen=True, kw_only=True):  # noqa: A001 - the builtin is about Python code
    """Something that BuildKit and buildah do not read alike."""

    line: int
    message: str


class Containerfile(msgspec.Struct, frozen=True, kw_only=True):
    """All that a Containerfile says about what it is built from."""

    dependencies: tuple[ImageDependency, ...]
    stages: tuple[Stage, ...]
    #: Number of the stage that is built.
    target: int
    warnings: tuple[Warning, ...]
    #: Paths of the build context that the needed stages read, wildcards as written and `.` for all of it.
    #: None: that depends on what only the base image knows, so everything counts.
    context_sources: tuple[str, ...] | None
    #: What the target leaves to its children, in other files too.
    triggers: tuple[Trigger, ...]
    #: Global arguments that decide which images `FROM` names, directly or through other arguments.
    arguments_used: frozenset[str]
    #: Those of them that have no value.
    arguments_unset: frozenset[str]
