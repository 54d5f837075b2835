"""YAML from outside: read so that nothing is taken for something else in silence, and no file can exhaust the machine.

Keys are names, so each must be text: YAML itself reads `no` as false, 2024 as a number and 010 as 8.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from evermix.wording import composed, is_unicode, pairs_joined

MOST_NODES = 500_000
MOST_CHARACTERS = 4_000_000
_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
_TAG = "tag:yaml.org,2002:"
_OTHER_BASE = re.compile(r"[-+]?0[0-7_]+|[-+]?\d[\d_]*(?::[0-5]?\d)+(?:\.[\d_]*)?", re.ASCII)
_THOUSANDS = re.compile(r"\d{3}", re.ASCII)


class YamlTextError(ValueError):
    """YAML that is not taken; `line` counts from 1 and is None where the whole text is meant."""

    def __init__(self, line: int | None, rule: str, hint: str | None = None) -> None:
        super().__init__(rule)
        self.line = line
        self.rule = rule
        self.hint = hint


def yaml_node(text: str, *, names: bool = True) -> yaml.Node | None:
    """The syntax tree of a YAML text, keys in composed form; None for an empty text.

    Args:
        names: hold keys and numbers to what this module says; without it they are for the caller to judge.

    Raises:
        YamlTextError: with the line and the way out.
    """
    if len(text) > MOST_CHARACTERS:
        raise YamlTextError(None, f"the file must have at most {MOST_CHARACTERS:,} characters, not {len(text):,}")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise YamlTextError(mark.line + 1 if mark else None, f"the text must be valid YAML ({problem})") from error
    except RecursionError as error:
        raise YamlTextError(None, "the text must not be nested without end") from error
    except ValueError as error:
        raise YamlTextError(None, f"the text must be valid YAML ({error})") from error
    if node is not None:
        _walk(node, names)
    return node


def yaml_data(node: yaml.Node | None) -> Any:
    """What a syntax tree says, in plain values.

    Raises:
        YamlTextError: for a value that cannot be, such as a day 32.
    """
    try:
        return None if node is None else yaml.SafeLoader("").construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise YamlTextError(mark.line + 1 if mark else None, f"the text must be valid YAML ({problem})") from error
    except ValueError as error:
        raise YamlTextError(None, f"every value must be valid ({error})") from error
    except RecursionError as error:
        raise YamlTextError(None, "the text must not be nested without end") from error


def misread(node: yaml.Node | None) -> str | None:
    """What YAML takes an unquoted word for, or None for text: `no` is true or false."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    return _KINDS.get(node.tag.removeprefix(_TAG))


def _walk(root: yaml.Node, names: bool) -> None:
    """Check every node once, children first, and count what aliases would repeat."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    waiting = [(root, False)]
    while waiting:
        node, seen = waiting.pop()
        key = id(node)
        if key in sizes:
            continue
        children = _children(node)
        if not seen:
            if key in open_nodes:
                raise YamlTextError(node.start_mark.line + 1, "an alias (*name) must not stand within what it repeats")
            open_nodes.add(key)
            waiting.append((node, True))
            waiting += [(child, False) for child in children if id(child) not in sizes]
            continue
        open_nodes.discard(key)
        sizes[key] = 1 + sum(sizes[id(child)] for child in children)
        if sizes[key] > MOST_NODES:
            raise YamlTextError(
                node.start_mark.line + 1,
                f"aliases (*name) must not repeat the text into more than {MOST_NODES:,} values",
            )
        _check(node, names)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check(node: yaml.Node, names: bool) -> None:
    if isinstance(node, yaml.ScalarNode):
        _check_unicode(node)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value if names else ():
            _check_number(item)
    elif isinstance(node, yaml.MappingNode):
        for position, (key, value) in enumerate(node.value):
            if names:
                _check_name(node, position, key)
                _check_number(value)
            if isinstance(key, yaml.ScalarNode):
                key.value = composed(key.value)
        if names:
            _refuse_twice_given(node)


def _check_unicode(node: yaml.ScalarNode) -> None:
    """An emoji may be written as a pair of surrogates, as JSON does; half of one is refused."""
    node.value = pairs_joined(node.value)
    if not is_unicode(node.value):
        line = node.start_mark.line + 1
        raise YamlTextError(line, "half a surrogate pair is no character", "write the character itself")


def _check_number(node: yaml.Node) -> None:
    """A number that YAML reads to another base: 010 is 8, and 1:30 is 90."""
    if misread(node) == "a number" and _OTHER_BASE.fullmatch(node.value):
        read_as = yaml.safe_load(node.value)
        raise YamlTextError(
            node.start_mark.line + 1,
            f"YAML reads {node.value} as {read_as}",
            f"write {read_as} if that is meant, or quote it if it is a name: '{node.value}'",
        )


def _check_name(mapping: yaml.MappingNode, position: int, key: yaml.Node) -> None:
    line = key.start_mark.line + 1
    if not isinstance(key, yaml.ScalarNode):
        raise YamlTextError(line, "a key must be a name, not a list or a mapping")
    if key.tag.removeprefix(_TAG) in ("str", "merge"):
        return
    number = _number_with_commas(mapping, position)
    if number:
        without = number.replace(",", "")
        rule = f"within braces a comma begins the next key, so that {number} is no number"
        raise YamlTextError(line, rule, f"write {without}")
    rule = f"a key must be a name, and YAML reads {key.value or 'an empty one'} as {misread(key) or key.tag}"
    raise YamlTextError(line, rule, f"quote the name: '{key.value}'")


def _number_with_commas(mapping: yaml.MappingNode, position: int) -> str:
    """`20,000` of {tokens: 20,000}, which YAML takes for {tokens: 20, 000: null}; "" if it is nothing of that kind."""
    before = mapping.value[position - 1][1] if position and mapping.flow_style else None
    if before is None or misread(before) != "a number":
        return ""
    groups = [before.value]
    for key, value in mapping.value[position:]:
        if misread(value) != "nothing" or value.value or not _THOUSANDS.fullmatch(str(key.value)):
            break
        groups.append(key.value)
    return ",".join(groups) if len(groups) > 1 else ""


def _refuse_twice_given(mapping: yaml.MappingNode) -> None:
    """YAML keeps the last of two equal keys in silence; we do not."""
    seen: set[str] = set()
    for key, _ in mapping.value:
        if key.value in seen:
            raise YamlTextError(key.start_mark.line + 1, f"{key.value}: a key must be given once")
        seen.add(key.value)
