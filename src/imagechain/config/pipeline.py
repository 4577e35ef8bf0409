"""The table `[pipeline]`: which jobs `imagechain image pipeline` writes for the images of a repository."""

import re

import msgspec

from imagechain.refs import PlatformError, parse_architecture

_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PipelineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[pipeline]`: which jobs `imagechain image pipeline` writes for the images of a repository.

    The keys of its tables are globs of folders or of Containerfiles, as in `[chain]`.
    """

    #: Glob -> architectures; the last key that matches wins. Default: the variable IMAGE_ARCHES.
    arches: dict[str, tuple[str, ...]] = {}
    #: Glob -> build argument -> its values: an image for each combination of them.
    matrix: dict[str, dict[str, tuple[str, ...]]] = {}
    #: Glob -> more paths whose change rebuilds the image, written as in the variable CHANGES.
    changes: dict[str, tuple[str, ...]] = {}
    #: Architecture -> tags of the runners that build for it.
    runner_tags: dict[str, tuple[str, ...]] = {}
    #: More jobs than these are refused; GitLab.com's free plan has room for as many at once.
    jobs_max: int = 500

    def __post_init__(self) -> None:
        """Refuse what can name no architecture and no build argument."""
        for key, arches in self.arches.items():
            _check_arches(f"arches.{key!r}", arches)
        _check_arches("runner_tags", tuple(self.runner_tags))
        for key, arguments in self.matrix.items():
            for name, values in arguments.items():
                if not _ARGUMENT.fullmatch(name):
                    raise ValueError(f"matrix.{key!r}: {name!r} is no name of a build argument")
                if not values or len(set(values)) < len(values):
                    raise ValueError(f"matrix.{key!r}: {name} needs one or more values, each once")


def _check_arches(where: str, arches: tuple[str, ...]) -> None:
    for arch in arches:
        try:
            platform = parse_architecture(arch)
        except PlatformError as error:
            raise ValueError(f"{where}: {error}") from error
        usual = f"{platform.architecture}/{platform.variant}"
        # The tags of the parts are named so, and registries know no other names.
        if arch != platform.architecture:
            raise ValueError(f"{where}: write {platform.architecture!r} instead of {arch!r} ({usual})")
    if len(set(arches)) < len(arches):
        raise ValueError(f"{where}: name each architecture once")
