"""Translates lists of mirrors of other tools to `[[mirror]]` tables. Pure.

Formats: skopeo-sync(1), "YAML file content"; regsync.yml of regclient. What has no counterpart is named in a
note, with what to do instead; nothing is left out in silence.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import yaml

from imagechain.config import MirrorSettings
from imagechain.mirror.select import PatternError, compile_pattern
from imagechain.refs import DEFAULT_TAG

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_VERSION = re.compile(r"v?\d+(?:\.\d+){0,3}")
_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{32,}")

#: Keys of regsync without counterpart -> what is done instead.
_REGSYNC_NOTES = {
    "interval": "run `imagechain mirror sync` from a timer, or give a schedule",
    "ratelimit": "a tenth of the pulls is left to others, or registry.HOST.pulls_reserved_percent of them",
    "parallel": "16 tags are looked at or copied at the same time",
    "digestTags": "referrers = true copies cosign's tags, and no others",
    "fastCheck": "it is always done so",
    "forceRecursive": "what a target lost is copied again when its tag moves",
    "cacheCount": "nothing is fetched twice in a run",
    "cacheTime": "nothing is fetched twice in a run",
    "userAgent": "it cannot be changed",
    "skipDockerConfig": "logins are read as podman reads them, and from registry.HOST.auth_file",
}
_REGSYNC_KNOWN = frozenset(
    {
        "source",
        "target",
        "type",
        "tags",
        "tagSets",
        "platform",
        "platforms",
        "referrers",
        "backup",
        "schedule",
    }
)


class TranslationError(ValueError):
    """A text that is no list of either tool; the message says why."""


class Translation(msgspec.Struct, frozen=True):
    """What a list means here."""

    mirrors: tuple[MirrorSettings, ...]
    #: Registries that are spoken to by plain HTTP.
    insecure: tuple[str, ...]
    #: What could not be translated, a sentence each.
    notes: tuple[str, ...]


def translate(text: str, to: str) -> Translation:
    """Translate a list of skopeo sync or of regsync.

    Args:
        text: YAML.
        to: the beginning of the targets' names; skopeo's lists have none.

    Raises:
        TranslationError: it is neither, or a target is missing.
    """
    try:
        # Every scalar is a text: the tag 1.10 is no number.
        table = yaml.load(text, yaml.CBaseLoader)  # noqa: S506 - it makes texts, lists and tables only
    except yaml.YAMLError as error:
        raise TranslationError(f"it is not YAML: {error}") from error
    work = _Work()
    try:
        if isinstance(table, dict) and "sync" in table:
            work.regsync(msgspec.convert(table, _Regsync))
        else:
            work.skopeo(msgspec.convert(table, dict[str, dict[str, Any]]), to)
    except msgspec.ValidationError as error:
        raise TranslationError(f"it is neither a list of skopeo sync nor one of regsync: {error}") from error
    return Translation(tuple(work.mirrors.values()), tuple(sorted(work.insecure)), tuple(work.notes))


#: An empty list is written as nothing at all, which is read as an empty text.
_Texts = list[str] | str


class _Skopeo(msgspec.Struct, frozen=True, rename="kebab"):
    """What a list of skopeo says of one registry."""

    images: dict[str, _Texts] = {}
    images_by_tag_regex: dict[str, str] = {}
    images_by_semver: dict[str, str] = {}
    tls_verify: str = "true"
    credentials: dict[str, str] | str = ""
    cert_dir: str = ""


class _TagSet(msgspec.Struct, frozen=True, rename="camel"):
    allow: _Texts = ""
    deny: _Texts = ""
    semver_range: _Texts = ""


class _Entry(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of regsync's list; the defaults have the same keys."""

    source: str = ""
    target: str = ""
    type: str = ""
    tags: _TagSet = _TagSet()
    tag_sets: list[_TagSet] = []
    platform: str = ""
    platforms: _Texts = ""
    referrers: str = ""
    digest_tags: str = ""
    backup: str = ""
    schedule: str = ""


class _Login(msgspec.Struct, frozen=True):
    registry: str = ""
    tls: str = ""


class _Regsync(msgspec.Struct, frozen=True):
    sync: list[dict[str, Any]]
    creds: list[_Login] = []
    defaults: dict[str, Any] = {}


class _Work:
    """What was translated so far."""

    def __init__(self) -> None:
        #: By target.
        self.mirrors: dict[str, MirrorSettings] = {}
        self.insecure: set[str] = set()
        self.notes: list[str] = []

    def skopeo(self, registries: Mapping[str, dict[str, Any]], to: str) -> None:
        read = {host: msgspec.convert(fields, _Skopeo) for host, fields in registries.items()}
        if not to:
            raise TranslationError("skopeo's lists name no target; give its beginning with --to")
        for host, found in read.items():
            self._name_unknown(host, registries[host], _Skopeo)
            for repository, tags in found.images.items():
                self._skopeo_tags(host, repository, _texts(tags) or ["*"], to)
            for repository, pattern in found.images_by_tag_regex.items():
                self._skopeo_tags(host, repository, [f"/{pattern}/"], to)
            for repository, versions in found.images_by_semver.items():
                self._skopeo_tags(host, repository, self._ranges(f"{host}/{repository}", [versions]), to)
            if found.tls_verify == "false":
                self._plain(host)
            if found.credentials:
                self.notes.append(f"{host}: logins are not taken over; `podman login {host}`")
            if found.cert_dir:
                self.notes.append(f"{host}: cert-dir is not taken over; let this machine trust its CA")

    def _skopeo_tags(self, host: str, repository: str, tags: Sequence[str], to: str) -> None:
        source = f"{host}/{repository}"
        # Without --scoped, skopeo takes the last part of the name.
        target = f"{to.rstrip('/')}/{repository.rpartition('/')[2]}"
        if target in self.mirrors and self.mirrors[target].source != source:
            scoped = f"{to.rstrip('/')}/{source}"
            self.notes.append(f"{source}: {target} is another one's target; it goes to {scoped}")
            target = scoped
        self._add({"source": source, "target": target, "tags": self._patterns(source, tags)})

    def regsync(self, found: _Regsync) -> None:
        for login in found.creds:
            if login.tls == "disabled":
                self._plain(login.registry)
            self.notes.append(f"{login.registry}: logins are not taken over; `podman login {login.registry}`")
        for each in found.sync:
            fields = {**found.defaults, **each}
            entry = msgspec.convert(fields, _Entry)
            self._name_unknown(entry.source, fields, _Entry)
            self._regsync_entry(entry)

    def _name_unknown(self, where: str, fields: Mapping[str, Any], struct: type[msgspec.Struct]) -> None:
        known = {field.encode_name for field in msgspec.structs.fields(struct)} - _REGSYNC_NOTES.keys()
        for key in sorted(fields.keys() - known):
            why = _REGSYNC_NOTES.get(key, "it has no counterpart")
            self.notes.append(f"{where}: {key} is not taken over: {why}")

    def _regsync_entry(self, entry: _Entry) -> None:
        source, target = entry.source, entry.target
        deny: list[str] = []
        if "{{" in source + target or entry.type not in {"image", "repository"}:
            why = "it has a template" if "{{" in source + target else f"its type is {entry.type!r}"
            self.notes.append(f"{source}: left out: {why}; write a table for each repository")
            return
        if entry.type == "image":
            (source, tag), (target, renamed) = _split(source), _split(target)
            if renamed != tag:
                self.notes.append(f"{source}:{tag}: left out: tags keep their names here, and it is renamed")
                return
            tags = [tag]
        else:
            tags, deny = self._regsync_tags(entry)
        self._add(
            {
                "source": source,
                "target": target,
                "tags": self._patterns(source, tags),
                "deny": self._patterns(source, deny),
                "platforms": tuple(_texts(entry.platforms) or _texts(entry.platform)),
                "referrers": "true" in {entry.referrers, entry.digest_tags},
                "keep_previous": 3 if entry.backup else 0,
                "schedule": entry.schedule,
            }
        )

    def _regsync_tags(self, entry: _Entry) -> tuple[list[str], list[str]]:
        sets = [each for each in (entry.tags, *entry.tag_sets) if each != _TagSet()]
        allow: list[str] = []
        deny: list[str] = []
        for each in sets:
            allow += [_anchored(pattern) for pattern in _texts(each.allow)]
            allow += self._ranges(entry.source, _texts(each.semver_range))
            deny += [_anchored(pattern) for pattern in _texts(each.deny)]
            if each.allow and each.semver_range:
                self.notes.append(f"{entry.source}: tags that either allow or semverRange takes are taken")
        if deny and len(sets) > 1:
            self.notes.append(f"{entry.source}: what one set of tags denies is denied for all sets")
        return allow if any(each.allow or each.semver_range for each in sets) else ["*"], deny

    def _ranges(self, source: str, ranges: Sequence[str]) -> list[str]:
        """Take ranges of versions that begin with a comparison; a version alone means just that."""
        found = []
        for each in map(str.strip, ranges):
            if each[:1] in "<>=!~^" and each:
                found.append(each)
            elif _VERSION.fullmatch(each):
                found.append(f"={each}")
            else:
                self.notes.append(f"{source}: left out: {each!r}; write it with comparisons (>=1.2 <1.3)")
        return found

    def _patterns(self, source: str, tags: Sequence[str]) -> tuple[str, ...]:
        found = []
        for tag in tags:
            if _DIGEST.fullmatch(tag):
                self.notes.append(f"{source}: {tag}: left out: only tags are mirrored")
                continue
            try:
                compile_pattern(tag)
            except PatternError as error:
                self.notes.append(f"{source}: left out: {error}")
            else:
                found.append(tag)
        return tuple(found)

    def _plain(self, host: str) -> None:
        self.insecure.add(host)
        self.notes.append(
            f"{host}: insecure = true means plain HTTP; where it speaks TLS, let this machine trust its CA"
        )

    def _add(self, fields: dict[str, Any]) -> None:
        known = self.mirrors.get(fields["target"])
        if known is not None and known.source == fields["source"]:
            fields["tags"] = tuple(dict.fromkeys((*known.tags, *fields["tags"])))
        elif known is not None:
            self.notes.append(f"{fields['source']}: left out: {known.source} has the same target")
            return
        try:
            self.mirrors[fields["target"]] = MirrorSettings(**fields)
        except ValueError as error:
            self.notes.append(f"{fields['source']}: left out: {error}")


def _split(image: str) -> tuple[str, str]:
    """Split a reference before its tag; a port has a slash behind it."""
    name, _, tag = image.rpartition(":")
    return (name, tag) if name and "/" not in tag else (image, DEFAULT_TAG)


def _anchored(pattern: str) -> str:
    """Write a regular expression of regsync, which has to take the whole tag."""
    return pattern if _NAME.fullmatch(pattern) else f"/^(?:{pattern})$/"


def _texts(value: _Texts) -> list[str]:
    return value if isinstance(value, list) else [value] if value else []


def as_toml(translation: Translation) -> str:
    """Write the tables; what is as by default is left out."""
    return "\n".join("".join(f"{line}\n" for line in lines) for lines in _tables(translation))


def _tables(translation: Translation) -> Iterator[list[str]]:
    for mirror in translation.mirrors:
        defaults = MirrorSettings(source=mirror.source, target=mirror.target, tags=("*",))
        lines = ["[[mirror]]"]
        for name in mirror.__struct_fields__:
            value = getattr(mirror, name)
            if name in {"source", "target", "tags"} or value != getattr(defaults, name):
                lines.append(f"{name} = {_toml(value)}")
        yield lines
    for host in translation.insecure:
        yield [f"[registry.{_toml(host)}]", "insecure = true"]


def _toml(value: object) -> str:
    """Write a value as JSON, which TOML's texts, numbers and lists of texts are, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
