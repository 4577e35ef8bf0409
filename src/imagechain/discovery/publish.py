"""What a project publishes, and with which build arguments it is built: `[chain]` of the settings."""

from imagechain.chain.values import Problem
from imagechain.config import FILE_NAME, ChainSettings
from imagechain.discovery.globs import GlobTable
from imagechain.refs import ReferenceError, parse_reference

_UNUSED = "matches no folder that holds a Containerfile, and no Containerfile; mend or remove it"


class Publisher:
    """Applies `[chain]`; knows afterwards which of its keys named nothing."""

    def __init__(self, settings: ChainSettings, top_name: str) -> None:
        self._prefix = settings.prefix
        self._top_name = top_name
        self._images = GlobTable(settings.images)
        self._build_args = GlobTable(settings.build_args)

    def images(self, folder: str, name: str, file: str) -> tuple[tuple[str, ...], Problem | None]:
        """List the references of a project, by its folder, its NAME (or none) and its Containerfile."""
        path = (self._top_name if folder == "." else folder) + (f"/{name}" if name else "")
        path = path.lower()
        # The last key that matches wins.
        templates = (self._images.matching(folder, file) or [f"{self._prefix}/{{path}}:latest"])[-1]
        try:
            return references(templates, path), None
        except ReferenceError as error:
            key = file if name else folder
            message = (
                f"it has no valid image name ({error}), so it publishes nothing; name it under "
                f'[chain.images] in {FILE_NAME}: "{key}" = "{self._prefix}/a-valid-name:latest"'
            )
            return (), Problem(file=file, line=None, message=message)

    def build_args(self, folder: str, file: str) -> dict[str, str]:
        """Merge the build arguments of all keys that name a project."""
        merged: dict[str, str] = {}
        for values in self._build_args.matching(folder, file):
            merged.update(values)
        return merged

    def unused_keys(self) -> list[Problem]:
        """List the keys that named no project, when all projects were asked for."""
        return [
            Problem(file=FILE_NAME, line=None, message=f"{key!r} in [chain.{name}] {_UNUSED}")
            for name, table in (("images", self._images), ("build_args", self._build_args))
            for key in table.unused_keys()
        ]


def references(templates: str | list[str], path: str) -> tuple[str, ...]:
    """List the references that templates of `[chain.images]` name for a project of this path.

    Raises:
        ReferenceError: one of them is no reference.
    """
    names = [
        template.replace("{path}", path).replace("{name}", path.rpartition("/")[2])
        for template in ([templates] if isinstance(templates, str) else templates)
    ]
    return tuple(dict.fromkeys(parse_reference(name).identity for name in names))
