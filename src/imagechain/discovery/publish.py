"""What a project publishes, and with which build arguments it is built: `[chain]` of the settings."""

from imagechain.chain.values import Problem
from imagechain.config import FILE_NAME, ChainSettings
from imagechain.discovery.globs import Glob
from imagechain.refs import ReferenceError, parse_reference

_UNUSED = "matches no folder that holds a Containerfile, and no Containerfile; mend or remove it"


class Publisher:
    """Applies `[chain]`; knows afterwards which of its keys matched nothing."""

    def __init__(self, settings: ChainSettings, top_name: str) -> None:
        self._prefix = settings.prefix
        self._top_name = top_name
        # The last key that matches wins.
        self._images = [(Glob(key), value) for key, value in reversed(settings.images.items())]
        self._build_args = [(Glob(key), value) for key, value in settings.build_args.items()]
        self._used: set[Glob] = set()

    def images(self, folder: str, name: str, file: str) -> tuple[tuple[str, ...], Problem | None]:
        """List the references of a project, by its folder, its NAME (or none) and its Containerfile."""
        path = (self._top_name if folder == "." else folder) + (f"/{name}" if name else "")
        templates: str | list[str] = f"{self._prefix}/{{path}}:latest"
        chosen = False
        # All keys are tried, so that only one that names nothing counts as unused.
        for glob, value in self._images:
            if glob.matches(folder, file):
                self._used.add(glob)
                if not chosen:
                    templates, chosen = value, True
        images: list[str] = []
        for template in [templates] if isinstance(templates, str) else templates:
            text = template.replace("{path}", path.lower()).replace("{name}", path.lower().rpartition("/")[2])
            try:
                images.append(parse_reference(text).identity)
            except ReferenceError as error:
                key = folder if not name else file
                message = (
                    f"it has no valid image name ({error}), so it publishes nothing; name it under "
                    f'[chain.images] in {FILE_NAME}: "{key}" = "{self._prefix}/a-valid-name:latest"'
                )
                return (), Problem(file=file, line=None, message=message)
        return tuple(dict.fromkeys(images)), None

    def build_args(self, folder: str, file: str) -> dict[str, str]:
        """Merge the build arguments of all keys that name a project."""
        merged: dict[str, str] = {}
        for glob, values in self._build_args:
            if glob.matches(folder, file):
                self._used.add(glob)
                merged.update(values)
        return merged

    def unused_keys(self) -> list[Problem]:
        """List the keys that named no project, when all projects were asked for."""
        tables = {
            "images": [glob for glob, _ in reversed(self._images)],
            "build_args": [glob for glob, _ in self._build_args],
        }
        return [
            Problem(file=FILE_NAME, line=None, message=f"{glob.key!r} in [chain.{table}] {_UNUSED}")
            for table, globs in tables.items()
            for glob in globs
            if glob not in self._used
        ]
