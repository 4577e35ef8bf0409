"""Makes pages of values: Jinja2, with every text escaped."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from imagechain.web.overview import brief

#: Beside each state, for those who do not see colours.
_SIGNS = {
    "fresh": "✓", "stale": "↻", "building": "▶", "blocked": "⊘", "failed": "✕", "paused": "‖", "cycle": "∞",
    "inactive": "○", "unknown": "?",
}  # fmt: skip
#: What a box of the graph has room for.
_NAME_CHARACTERS_MAX = 26
_FOLDER_CHARACTERS_MAX = 18


class Renderer:
    """Renders the templates beside this module."""

    def __init__(self, static_versions: Mapping[str, str]) -> None:
        self._environment = Environment(
            loader=PackageLoader("imagechain.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(
            static=lambda name: f"/static/{name}?v={static_versions[name]}", signs=_SIGNS
        )
        self._environment.filters.update(
            brief=brief,
            duration=duration,
            escape_path=quote,
            folder=folder,
            escape_query=lambda text: quote(text, safe=""),
            safe_link=safe_link,
            sentence=sentence,
            short=short,
            iso=lambda at: _utc(at).isoformat(timespec="seconds"),
            utc=lambda at: f"{_utc(at):%Y-%m-%d %H:%M} UTC",
        )

    def render(self, template: str, **values: object) -> str:
        """Render a page."""
        return self._environment.get_template(template).render(values)


def duration(seconds: float) -> str:
    """Write a span of time in its two largest units."""
    rest = max(0, round(seconds))
    units: list[str] = []
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            units.append(f"{count} {name}")
    return " ".join(units[:2]) or "0 s"


def safe_link(url: str) -> str:
    """Give an address that may be linked to; empty: it may not, since a browser could run it."""
    return url if url.startswith(("https://", "http://")) else ""


def sentence(text: str) -> str:
    """Write a notice as a sentence; a name at its beginning stays as it is."""
    is_word = text.partition(" ")[0].isalpha()
    return f"{text[:1].upper() if is_word else text[:1]}{text[1:]}."


def short(id: str) -> str:
    """Shorten the last part of an id."""
    name = id.rpartition("/")[2]
    return name if len(name) <= _NAME_CHARACTERS_MAX else f"{name[: _NAME_CHARACTERS_MAX - 1]}…"


def folder(id: str) -> str:
    """Shorten all but the last part of an id, too: its end tells more than its beginning."""
    path = id.rpartition("/")[0]
    return path if len(path) <= _FOLDER_CHARACTERS_MAX else f"…{path[1 - _FOLDER_CHARACTERS_MAX :]}"


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
