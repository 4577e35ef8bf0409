"""YAML of GitLab's dialect, read into nodes that know their file and line.

GitLab reads with Ruby's Psych on libyaml: YAML 1.1, aliases, merge keys, and the tag `!reference`. Nodes are
made from libyaml's events rather than by PyYAML's composer, which overflows the C stack on deep nesting.
Unlike GitLab, a key that stands twice is refused: one of the two is surely a mistake.
"""

from collections.abc import Mapping, Sequence

import msgspec
import yaml

from imagechain.ciconfig.values import CiConfigError

#: Largest file that is read; GitLab's own default for `max_yaml_size_bytes`.
FILE_BYTES_MAX = 2 * 1024 * 1024
#: Deepest nesting; GitLab's own default for `max_yaml_depth`.
DEPTH_MAX = 100
#: Most nodes of one file, each alias counted as large as what it stands for ("billion laughs").
NODES_MAX = 100_000
#: A header with `spec:` and the configuration itself.
DOCUMENTS_MAX = 2

_TAG = "tag:yaml.org,2002:"
_REFERENCE_TAG = "!reference"
_MERGE_KEY = "<<"


class TagReference(msgspec.Struct, frozen=True):
    """`!reference [job, key, ...]`: stands for a part of the configuration."""

    path: tuple[str, ...]


class Node(msgspec.Struct, frozen=True, eq=False):
    """A value, and where it stands: for a mapping's value the line of its key, else its own."""

    value: "Value"
    file: str
    line: int

    def error(self, message: str) -> CiConfigError:
        """Make the error that says what is wrong here."""
        return CiConfigError(message, file=self.file, line=self.line)

    def mapping(self, what: str) -> "Mapping[str, Node]":
        """Read it as a mapping.

        Raises:
            CiConfigError: it is none; `what` names it.
        """
        if not isinstance(self.value, Mapping):
            raise self.error(f"{what} must be a mapping")
        return self.value


Value = Mapping[str, Node] | Sequence[Node] | TagReference | str | int | float | bool | None


def load_configuration(data: bytes, file: str) -> Node:
    """Read the configuration of a file, without its `spec:` header; an empty file is an empty mapping.

    Raises:
        CiConfigError: the file is no YAML, or exceeds a bound.
    """
    documents = _load_documents(data, file)
    if not documents:
        return Node({}, file, 1)
    configuration = documents[-1]
    if configuration.value is None:
        return Node({}, file, configuration.line)
    configuration.mapping("the configuration")
    return configuration


def load_header(data: bytes, file: str) -> Node | None:
    """Read the `spec:` header of a file; None: it has none.

    Raises:
        CiConfigError: the file is no YAML, or exceeds a bound.
    """
    documents = _load_documents(data, file)
    return documents[0] if len(documents) == DOCUMENTS_MAX else None


def _load_documents(data: bytes, file: str) -> list[Node]:
    if len(data) > FILE_BYTES_MAX:
        raise CiConfigError(f"the file is larger than {FILE_BYTES_MAX} bytes", file=file, line=1)
    try:
        documents = _Parser(data, file).documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise CiConfigError(f"not YAML: {error.problem or error.context}", file=file, line=line) from error
    except yaml.reader.ReaderError as error:
        line = data.count(b"\n", 0, error.position) + 1
        raise CiConfigError(f"not a YAML text: {error.reason}", file=file, line=line) from error
    if len(documents) == DOCUMENTS_MAX and not (
        isinstance(documents[0].value, Mapping) and "spec" in documents[0].value
    ):
        raise documents[1].error("a second YAML document is allowed only after a header with `spec:`")
    return documents


class _Parser:
    """Makes nodes of one file's events; `nodes` counts them with all aliases expanded."""

    def __init__(self, data: bytes, file: str) -> None:
        self._loader = yaml.CSafeLoader(data)
        self._file = file
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._nodes = 0

    def documents(self) -> list[Node]:
        documents: list[Node] = []
        while True:
            event = self._next()
            if isinstance(event, yaml.StreamEndEvent):
                return documents
            if isinstance(event, yaml.DocumentStartEvent):
                if len(documents) == DOCUMENTS_MAX:
                    raise self._error(event, f"more than {DOCUMENTS_MAX} YAML documents in one file")
                self._anchors.clear()
                documents.append(self._node(self._next(), depth=0))

    def _next(self) -> yaml.Event:
        event = self._loader.get_event()
        return event if event is not None else yaml.StreamEndEvent()

    def _error(self, event: yaml.Event, message: str) -> CiConfigError:
        return CiConfigError(message, file=self._file, line=_line(event))

    def _node(self, event: yaml.Event, depth: int) -> Node:
        before = self._nodes
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._error(
                    event, f"the alias *{event.anchor} stands for nothing that was written before it"
                )
            target, size = self._anchors[event.anchor]
            self._count(event, size)
            return Node(target.value, self._file, _line(event))
        if depth > DEPTH_MAX:
            raise self._error(event, f"nested deeper than {DEPTH_MAX} levels")
        self._count(event, 1)
        value: Value
        if isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(event, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(event, depth)
        elif isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        else:
            raise self._error(event, "not YAML: a value is missing")
        node = Node(value, self._file, _line(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = node, self._nodes - before
        return node

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > NODES_MAX:
            raise self._error(event, f"more than {NODES_MAX} values, with aliases expanded")

    def _scalar(self, event: yaml.ScalarEvent) -> str | int | float | bool | None:
        text: str = event.value
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(  # type: ignore[no-untyped-call]
                yaml.ScalarNode, text, event.implicit
            )
        node = yaml.ScalarNode(tag, text)
        try:
            match tag.removeprefix(_TAG):
                case "int":
                    return int(self._loader.construct_yaml_int(node))
                case "float":
                    return float(self._loader.construct_yaml_float(node))
                case "bool":
                    return bool(self._loader.construct_yaml_bool(node))
                case "null":
                    return None
        except (ValueError, KeyError, IndexError) as error:
            raise self._error(event, f"{text[:40]!r} is no {tag.removeprefix(_TAG)}") from error
        if not tag.startswith(_TAG):
            raise self._error(event, f"unknown tag {tag}; GitLab knows only !reference [job, key]")
        return text

    def _sequence(self, event: yaml.SequenceStartEvent, depth: int) -> Value:
        items: list[Node] = []
        while not isinstance(following := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(following, depth + 1))
        if event.tag == _REFERENCE_TAG:
            path = tuple(item.value for item in items if isinstance(item.value, str))
            if not path or len(path) != len(items):
                raise self._error(
                    event, "!reference needs the names of a job and of its keys: !reference [.job, image]"
                )
            return TagReference(path)
        self._check_tag(event, "seq")
        return items

    def _mapping(self, event: yaml.MappingStartEvent, depth: int) -> Value:
        self._check_tag(event, "map")
        entries: dict[str, Node] = {}
        written: set[str] = set()
        while not isinstance(key := self._next(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise self._error(key, "a key must be a plain text")
            self._count(key, 1)
            value = self._node(self._next(), depth + 1)
            if key.value == _MERGE_KEY:
                entries.update(self._merged(key, value))
                continue
            if key.value in written:
                raise self._error(
                    key, f"the key {key.value!r} stands twice in one mapping; the first would be lost"
                )
            written.add(key.value)
            entries[key.value] = Node(value.value, self._file, _line(key))
        return entries

    def _merged(self, key: yaml.Event, value: Node) -> dict[str, Node]:
        """Collect what `<<` adds. As in Psych, later keys win over it, it wins over earlier ones."""
        merged: dict[str, Node] = {}
        sources = value.value if isinstance(value.value, list) else [value]
        for source in reversed(sources):
            if not isinstance(source.value, Mapping):
                raise self._error(key, "`<<` needs a mapping, or a list of mappings, such as *anchor")
            merged.update(source.value)
        return merged

    def _check_tag(self, event: yaml.CollectionStartEvent, expected: str) -> None:
        if event.tag not in {None, "!", _TAG + expected}:
            raise self._error(event, f"unknown tag {event.tag}; GitLab knows only !reference [job, key]")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1
