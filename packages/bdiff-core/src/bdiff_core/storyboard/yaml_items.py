"""Reading shots from YAML, event by event: only text and numbers are constructed, and nesting is limited."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml import events

from .characters import forbidden, one_line, shown
from .contents import Contents, known_fields, list_key
from .shots import Fields, Item, Unread, kind

# The parser of libyaml is ten times as fast; where PyYAML was built without it, its own does the same.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER = yaml.resolver.Resolver()
_PREFIX = "tag:yaml.org,2002:"
_DEEPEST = 50
# Backslashes in pairs come first: the second one of `\\\\ud83d` begins no escape.
_PAIR = re.compile(r"\\\\|\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)
_DECIMAL = re.compile(r"[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:e[-+]?[0-9]++)?", re.IGNORECASE)


@dataclass(slots=True)
class _Scalar:
    value: str
    tag: str
    line: int


@dataclass(slots=True)
class _Collection:
    """A list, or a mapping as a list of keys and values in turn."""

    is_list: bool
    tag: str
    line: int
    nodes: list["_Node"] = field(default_factory=list)


_Node = _Scalar | _Collection


def read_yaml(text: str, source: str) -> Contents:
    """A list of shots, alone or in a mapping.

    Raises:
        ValueError: If it holds no such list; the message names source and line.
    """
    sign = forbidden(text)
    if sign:
        number = next(number for number, line in enumerate(text.split("\n"), 1) if forbidden(line))
        raise ValueError(f"{source}, line {number}: holds {sign}; take it out")
    try:
        node = _composed(yaml.parse(_PAIR.sub(_joined, text), Loader=_LOADER), source)
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{source}{where}: not valid YAML: {one_line(str(error.problem))}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not valid YAML: {one_line(str(error))}") from None
    rest: dict[str, Any] = {}
    key = None
    if isinstance(node, _Collection) and node.tag:
        raise _strange(node, source)
    if isinstance(node, _Collection) and not node.is_list:
        fields = _mapping(node, source)
        key, beside = list_key(fields, source)
        rest = {name: _value(child, source) for name, child in beside.items()}
        node = fields[key]
    if isinstance(node, _Collection) and node.tag:
        raise _strange(node, source)
    if not isinstance(node, _Collection) or not node.is_list:
        raise ValueError(
            f"{source}: expected a list of prompts, got {kind(_value(node, source)) if node else 'nothing'}"
        )
    items = (Item(known_fields(key, _value(item, source)), item.line) for item in node.nodes)
    return Contents(items, **rest)


def _joined(match: re.Match[str]) -> str:
    """One character for two escapes, the way JSON writes characters beyond U+FFFF."""
    if not match[1]:
        return match[0]
    return chr(0x10000 + ((int(match[1], 16) - 0xD800) << 10) + int(match[2], 16) - 0xDC00)


def _composed(stream: Iterator[events.Event], source: str) -> _Node | None:
    """The document of a file as nodes; an alias refers to its node without a copy."""
    root: _Node | None = None
    stack: list[_Collection] = []
    anchors: dict[str, _Node] = {}
    for event in stream:
        line = _line(event)
        if isinstance(event, events.CollectionEndEvent):
            stack.pop()
        if isinstance(event, events.DocumentStartEvent) and root is not None:
            raise ValueError(f"{source}, line {line}: a second document begins here; a storyboard is one")
        if not isinstance(event, events.NodeEvent):
            continue
        node = _node(event, anchors, f"{source}, line {line}")
        if stack:
            stack[-1].nodes.append(node)
        else:
            root = node
        if isinstance(node, _Collection) and isinstance(event, events.CollectionStartEvent):
            if len(stack) == _DEEPEST:
                raise ValueError(f"{source}, line {line}: not a storyboard: its brackets are nested too deeply")
            stack.append(node)
    return root


def _line(event: events.Event) -> int:
    """Number of the line on which an event begins, from 1."""
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _node(event: events.NodeEvent, anchors: dict[str, _Node], where: str) -> _Node:
    line = _line(event)
    if isinstance(event, events.CollectionStartEvent):
        is_list = isinstance(event, events.SequenceStartEvent)
        usual = (None, "!", f"{_PREFIX}{'seq' if is_list else 'map'}")
        node: _Node = _Collection(is_list, "" if event.tag in usual else event.tag, line)
    elif isinstance(event, events.ScalarEvent):
        tag = event.tag or _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)
        node = _Scalar(event.value, _PREFIX + "str" if tag == "!" else tag, line)
    elif event.anchor in anchors:
        return anchors[event.anchor]
    else:
        raise ValueError(f"{where}: not valid YAML: nothing is called {shown(event.anchor)}; quote a prompt with *")
    if event.anchor:
        anchors[event.anchor] = node
    return node


def _mapping(node: _Collection, source: str) -> dict[str, _Node]:
    """Keys and values of a mapping, each key once."""
    found: dict[str, _Node] = {}
    for key, value in zip(node.nodes[::2], node.nodes[1::2], strict=True):
        name = _key(key, source)
        if name in found:
            raise ValueError(f"{source}, line {key.line}: {shown(name)} is given twice; leave one of them out")
        found[name] = value
    return found


def _key(node: _Node, source: str) -> str:
    if not isinstance(node, _Scalar):
        raise ValueError(f"{source}, line {node.line}: a list or mapping is the name of a field; expected a word")
    if node.tag == f"{_PREFIX}merge":
        raise ValueError(f"{source}, line {node.line}: the merge key << is not read; write prompt, start and end out")
    return node.value


def _value(node: _Node, source: str) -> object:
    """A node as text, a number, or a mapping of these; any list becomes an empty list."""
    if isinstance(node, _Scalar):
        return _scalar(node, source)
    if node.tag:
        raise _strange(node, source)
    if node.is_list:
        return []
    return Fields(tuple((key, _inner(value, source)) for key, value in _mapping(node, source).items()))


def _inner(node: _Node, source: str) -> object:
    """The value of a field of a shot; a mapping becomes an empty one."""
    if isinstance(node, _Scalar):
        return _scalar(node, source)
    if not node.is_list:
        return Fields(())
    # No field has more than two values; a third shows that there are too many.
    return [_scalar(child, source) if isinstance(child, _Scalar) else [] for child in node.nodes[:3]]


def _scalar(node: _Scalar, source: str) -> object:
    name = node.tag.removeprefix(_PREFIX)
    if name in ("str", "value", "merge"):
        return node.value
    if name == "null":
        return None
    if name == "bool":
        return node.value.lower() in ("yes", "true", "on")
    if name == "timestamp":
        return Unread("a date", node.value)
    if name in ("int", "float"):
        return _number(node.value)
    raise _strange(node, source)


def _number(text: str) -> object:
    """A decimal number. Unlike in YAML 1.1, `010` is ten, and a number with colons is a time."""
    plain = text.replace("_", "").lower()
    if plain.lstrip("+-") in (".inf", ".nan"):
        return float(plain.replace(".", ""))
    if not _DECIMAL.fullmatch(plain):
        return Unread("a number", text)
    if plain.lstrip("+-").isdigit():
        return int(plain) if len(plain) < 400 else math.inf
    return float(plain)


def _strange(node: _Node, source: str) -> ValueError:
    tag = one_line(node.tag.replace(_PREFIX, "!!"), 60)
    return ValueError(f"{source}, line {node.line}: the tag {tag} is not read; leave it out")
