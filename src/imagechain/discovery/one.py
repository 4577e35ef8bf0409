"""Find and read the Containerfile of one image by its name, as a CI job or a person asks for it.

What is read is what `discover` reads of the same file: the same preprocessor, the same build arguments.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from imagechain.chain.values import Problem
from imagechain.config import Settings
from imagechain.discovery.names import FileNames, folder_of
from imagechain.discovery.preprocess import Preprocessed, preprocess
from imagechain.discovery.publish import Publisher
from imagechain.discovery.reading import HowToRead, Located, read_project
from imagechain.discovery.values import DiscoveryError
from imagechain.discovery.walk import UnreadableError, read_file

#: How files of images are called in the folder of an image, the preferred one first.
_FILE_NAMES = ("Containerfile", "Containerfile.in", "Dockerfile", "Dockerfile.in")
_BUILDS_FOLDER = "builds"
_PREPROCESSED_ENDING = ".in"
#: Names of images as registries allow them; so none leads out of the repository.
_NAME = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_ARGUMENT = r"^[ \t]*ARG[ \t](?:.*[ \t])?{name}(?:[ \t=]|$)"


class Found(msgspec.Struct, frozen=True):
    """Where the Containerfile of an image is."""

    #: Relative to the top folder, with `/`.
    file: str
    #: Folder of the build context, relative to the top folder.
    context: str


class OneImage(msgspec.Struct, frozen=True, kw_only=True):
    """The Containerfile of one image, read."""

    file: str
    context: str
    #: What a builder must be given.
    text: bytes
    build_args: Mapping[str, str]
    #: The images that it names; those that the build does not reach are among them.
    dependencies: tuple[Located, ...]
    #: Paths of the context that its build reads; None: all of it.
    context_sources: tuple[str, ...] | None
    #: References that it publishes by the settings.
    images: tuple[str, ...]
    warnings: tuple[Problem, ...]


def find_file(top: Path, name: str | None) -> Found:
    """Find the Containerfile of an image.

    Args:
        top: The top folder of the repository.
        name: Of the image; None: the repository's own.

    Raises:
        DiscoveryError: there is none; the message names the places that were looked at.
    """
    own = [Found(file, ".") for file in _FILE_NAMES]
    places = own
    if name is not None:
        if not _NAME.fullmatch(name.lower()):
            raise DiscoveryError(
                f"{name!r} is no name of an image: write letters, digits, '.', '_' and '-', with '/' between"
            )
        places = [
            Found(f"{_BUILDS_FOLDER}/{name}", "."),
            Found(f"{_BUILDS_FOLDER}/{name}{_PREPROCESSED_ENDING}", "."),
            *(Found(f"{name}/{file}", name) for file in _FILE_NAMES),
        ]
        # Where a repository has a folder for its images, a name that is not in it is a mistake.
        if not (top / _BUILDS_FOLDER).is_dir():
            places += own
    for place in places:
        if (top / place.file).is_file():
            return place
    looked = ", ".join(place.file for place in places)
    raise DiscoveryError(
        f"there is no Containerfile {f'of {name!r} ' if name else ''}in {top}: looked for {looked}; add one "
        "of these, or name another file with --file"
    )


def named_file(top: Path, file: Path, context: Path | None) -> Found:
    """Take the Containerfile and the context that a person names, both relative to the top folder.

    Raises:
        DiscoveryError: one of them is not there, or the file is not in the context or in the repository.
    """
    root = top.resolve()
    path = (root / file).resolve()
    if not path.is_file():
        raise DiscoveryError(f"there is no file {root / file}; name the Containerfile relative to {root}")
    if not path.is_relative_to(root):
        raise DiscoveryError(
            f"{path} is outside of {root}, so that nobody who has only this repository could build it again; "
            "move it into the repository"
        )
    inside = path.relative_to(root).as_posix()
    folder = folder_of(inside)
    is_in_builds = folder.rpartition("/")[2] == _BUILDS_FOLDER
    chosen = folder_of(folder) if is_in_builds else folder
    return with_context(top, Found(inside, chosen), context)


def with_context(top: Path, found: Found, context: Path | None) -> Found:
    """Build with another context.

    Raises:
        DiscoveryError: it is no folder, or the Containerfile is not in it.
    """
    if context is None:
        return found
    root = top.resolve()
    folder = (root / context).resolve()
    if not folder.is_dir():
        raise DiscoveryError(f"the context {folder} is no folder; name one with --context")
    if not folder.is_relative_to(root) or not (root / found.file).is_relative_to(folder):
        raise DiscoveryError(
            f"{found.file} is outside of the build context {folder}; name a --context in {root} that holds "
            "the Containerfile, or move one of them"
        )
    return Found(found.file, folder.relative_to(root).as_posix())


def read_one(
    top: Path,
    found: Found,
    settings: Settings,
    how: HowToRead,
    *,
    build_args: Mapping[str, str],
    offered_args: Mapping[str, str],
) -> OneImage:
    """Read a Containerfile.

    Args:
        top: The top folder of the repository.
        found: Where it is.
        settings: Those of the top folder.
        how: For which platform, target and builder.
        build_args: What the command line gives.
        offered_args: What the environment gives; taken only where the file declares it.

    Raises:
        DiscoveryError: it cannot be read; the message names the line.
    """
    root = str(top.resolve())
    text, preprocessed = _read_text(root, found)
    folder = folder_of(found.file)
    publisher = Publisher(settings.chain, Path(root).name)
    fixed = {
        **publisher.build_args(folder, found.file),
        **{name: value for name, value in offered_args.items() if declares(text, name)},
        **build_args,
    }
    reading = read_project(text, found.file, how, fixed_args=fixed, ci_args=(), preprocessed=preprocessed)
    if reading.problems:
        raise DiscoveryError(str(reading.problems[0]))
    images, _ = publisher.images(folder, _variant(found.file, settings), found.file)
    return OneImage(
        file=found.file,
        context=found.context,
        text=text,
        build_args=reading.build_args,
        dependencies=reading.dependencies,
        context_sources=reading.context_sources,
        images=images,
        warnings=reading.warnings,
    )


def declares(text: bytes, argument: str) -> bool:
    """Whether a Containerfile has an ARG of this name."""
    pattern = _ARGUMENT.format(name=re.escape(argument)).encode()
    return re.search(pattern, text, re.IGNORECASE | re.MULTILINE) is not None


def _variant(file: str, settings: Settings) -> str:
    """Tell which of several images of its folder a Containerfile is; empty for the folder's own."""
    folder, name = folder_of(file), Path(file).name
    read = FileNames(settings.chain.files).read(folder, name)
    if read is not None:
        return read.name
    # `builds/NAME` is found by its name alone, and each file there is an image.
    return name if folder.rpartition("/")[2] == _BUILDS_FOLDER else ""


def _read_text(root: str, found: Found) -> tuple[bytes, Preprocessed | None]:
    try:
        text = read_file(root, found.file)
    except UnreadableError as error:
        raise DiscoveryError(f"{found.file} {error}") from error
    if not found.file.endswith(_PREPROCESSED_ENDING):
        return text, None
    preprocessed = preprocess(root, found.file, found.context)
    if preprocessed.refused is not None:
        raise DiscoveryError(str(preprocessed.refused))
    return preprocessed.text, preprocessed
