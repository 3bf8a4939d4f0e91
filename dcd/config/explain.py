"""Explain faults in a configuration document: the place, what was found, the mend."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

Place = tuple[int | str, ...]
MAX_NODES = 100_000  # of a config, keys and values
MAX_TEXT = 10_000  # characters of one value

# By pydantic's error type, filled in from the fault's context.
_EXPECTED = {
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "tuple_type": "expected a list, such as [a, b]",
    "dict_type": "expected a section of key: value pairs",
    "greater_than": "expected a number above {gt}",
    "greater_than_equal": "expected {ge} or more",
    "less_than": "expected a number below {lt}",
    "less_than_equal": "expected {le} or less",
    "string_too_short": "expected at least {min_length} characters",
    "string_pattern_mismatch": "expected text of the form {pattern}",
    "too_short": "expected at least {min_length} items",
    "union_tag_not_found": "expected the key {discriminator}, which says of what kind it is",
    "union_tag_invalid": "expected {discriminator} to be one of {expected_tags}",
    "string_type": "expected text (put the value in quotes)",
    "invalid_key": "expected a key that is text (numbers, yes, no and null need quotes)",
}
# What pydantic names the members of a union: no part of a config.
_MEMBER = re.compile(r"literal\[|constrained-|function-|(float|int|str|bool)$|[A-Z]\w*Config$")
_OCTAL = re.compile(r"[-+]?0[0-7_]*[0-7]")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def closest(word: str, choices: list[str]) -> str | None:
    """Return the choice that `word` most likely meant; None if none is near.

    The same but for case, separators of words or leading zeros goes first.
    """
    of = {_folded(choice): choice for choice in reversed(choices)}
    near = difflib.get_close_matches(_folded(word), of, n=1, cutoff=0.6)
    return of[near[0]] if near else None


def _folded(word: str) -> str:
    return " ".join(re.split(r"[\s_-]+", word.casefold())).lstrip("0") or "0"


def explain_faults(
    faults: Sequence[ErrorDetails], origin_of: Callable[[Place], str], model: type[BaseModel]
) -> list[str]:
    """Explain pydantic's faults, a line each: origin, dotted place, what was found, the mend.

    origin_of: the file, with the line of a place if known. What does not fit any member of a union
    is one fault. The value of an unknown key is never shown: it may be a secret that was put into
    the wrong file.
    """
    messages: dict[Place, list[str]] = {}
    for fault in faults:
        loc = _place(fault)
        inside = any(_place(other)[:-1] == loc for other in faults if other is not fault)
        if fault["type"] == "too_short" and inside:  # its items are at fault
            continue
        messages.setdefault(loc, []).append(_message(fault, loc, model))
    return [
        ": ".join(part for part in (origin_of(loc), dotted(loc), _joined(told)) if part)
        for loc, told in messages.items()
    ]


def _place(fault: ErrorDetails) -> Place:
    """Where a fault is, by keys and numbers of list items alone; of a key its section."""
    loc = fault["loc"][: -1 if fault["type"] == "invalid_key" else None]
    return tuple(
        part
        for part in loc
        if part != "[key]" and not (isinstance(part, str) and _MEMBER.match(part))
    )


def _joined(messages: Sequence[str]) -> str:
    """What is told of one place as one sentence: `expected a, or b; found c`."""
    first, found, rest = messages[0].partition("; found")
    further = [each.partition("; found")[0].removeprefix("expected ") for each in messages[1:]]
    return ", or ".join(dict.fromkeys([first, *further])) + found + rest


def explain_yaml(path: str, err: yaml.YAMLError) -> str:
    """Explain in a line why a text is no YAML: file, line, what the parser saw, the usual mend."""
    line, saw = "", " ".join(str(err).split())
    if isinstance(err, yaml.MarkedYAMLError) and err.problem_mark:
        line = f":{err.problem_mark.line + 1}"
        saw = " ".join(filter(None, (err.context, err.problem)))
    if isinstance(err, yaml.constructor.ConstructorError) and "for the tag" in saw:
        return f"{path}{line}: tags such as !name are not read ({saw}); write the value itself"
    return (
        f"{path}{line}: not valid YAML: {saw}; indent with spaces, and put values that hold "
        "{, }, :, # or * in quotes"
    )


def dotted(loc: Place) -> str:
    """Write the location of a fault as `compare.baselines[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def line_of(root: yaml.Node | None, loc: Place) -> int | None:
    """Return the line, from 1, of a key or list item; that of its section where it is missing."""
    line, node = None, root
    for part in loc:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = (node.value[part], node.value[part]) if part < len(node.value) else None
        if found is None:
            break
        key, node = found
        line = key.start_mark.line + 1
    return line


def repeated_keys(root: yaml.Node | None) -> list[str]:
    """Tell of every key that stands twice, a line each: YAML would silently keep the last."""
    problems: list[str] = []
    # An alias stands for the node that its anchor marks: each is looked at once.
    seen: set[int] = set()
    waiting: list[tuple[yaml.Node | None, Place]] = [(root, ())]
    while waiting:
        node, loc = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(value, (*loc, i)) for i, value in enumerate(node.value)]
            continue
        lines: dict[Any, int] = {}
        for key, value in node.value:
            place, line = (*loc, key.value), key.start_mark.line + 1
            if key.value in lines:
                problems.append(
                    f"{line}: {dotted(place)}: stands already on line {lines[key.value]}; "
                    "keep one of the two"
                )
            lines.setdefault(key.value, line)
            waiting.append((value, place))
    return sorted(problems, key=lambda problem: int(problem.split(":")[0]))


def odd_numbers(root: yaml.Node | None) -> list[str]:
    """Tell of numbers that YAML reads otherwise than people do, a line each: 010 and 1:30."""
    problems: list[str] = []
    seen: set[int] = set()
    waiting: list[tuple[yaml.Node | None, Place]] = [(root, ())]
    while waiting:
        node, loc = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(value, (*loc, i)) for i, value in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            waiting += [(value, (*loc, key.value)) for key, value in node.value]
        elif node.tag in _NUMBERS and (":" in node.value or _OCTAL.fullmatch(node.value)):
            found = yaml.safe_load(node.value)
            problems.append(
                f"{node.start_mark.line + 1}: {dotted(loc)}: YAML reads {node.value} as {found:g}; "
                "write a number without a leading zero or colon, or text in quotes"
            )
    return sorted(problems, key=lambda problem: int(problem.split(":")[0]))


def too_large(root: yaml.Node | None) -> str | None:
    """Say with its line where a document holds too much once its aliases are spelled out.

    Each node is looked at once: a few lines whose aliases multiply stand for billions.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    waiting: list[tuple[yaml.Node, bool]] = [(root, False)] if root is not None else []
    while waiting:
        node, is_counted = waiting.pop()
        parts = _parts(node)
        if is_counted:
            open_nodes.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes[id(part)] for part in parts)
            if sizes[id(node)] > MAX_NODES:
                return (
                    f"{node.start_mark.line + 1}: holds more than {MAX_NODES:,} values, all "
                    "aliases spelled out"
                )
        elif isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_TEXT:
            return f"{node.start_mark.line + 1}: a value has more than {MAX_TEXT:,} characters"
        elif id(node) in open_nodes:
            return f"{node.start_mark.line + 1}: holds itself, by an alias"
        elif id(node) not in sizes:
            open_nodes.add(id(node))
            waiting.append((node, True))
            waiting += [(part, False) for part in parts if id(part) not in sizes]
    return None


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _message(fault: ErrorDetails, loc: Place, model: type[BaseModel]) -> str:
    kind, context, found = fault["type"], fault.get("ctx", {}), fault["input"]
    if kind == "extra_forbidden":
        return _unknown_key(str(loc[-1]), loc[:-1], model)
    if kind == "missing":
        return f"is missing; add `{loc[-1]}:`{_meaning(loc, model)}"
    if kind in ("model_type", "model_attributes_type"):
        section = _model_at(model, loc)
        keys = f" with keys such as {_listing(list(section.model_fields)[:5])}" if section else ""
        return f"expected a section{keys}; found {_shown(found)}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = _choices(context["expected"])
        guess = closest(found, choices) if isinstance(found, str) else None
        mend = f"did you mean '{guess}'?" if guess else "take one of them"
        return f"expected {context['expected']}; found {_shown(found)}; {mend}"
    expected = _EXPECTED.get(kind, fault["msg"]).format(**context)
    return f"{expected}; found {_shown(found)}"


def _unknown_key(key: str, parent: Place, model: type[BaseModel]) -> str:
    section = _model_at(model, parent)
    known = list(section.model_fields) if section else []
    if guess := closest(key, known):
        return f"unknown key; did you mean '{guess}'?"
    homes = [place for place in _homes(key, model) if place != parent]
    if len(homes) == 1:
        return f"unknown key here; it belongs {_where(homes[0])}"
    return f"unknown key; remove it or take one of {_listing(known)}"


def _homes(key: str, model: type[BaseModel]) -> list[Place]:
    """The sections, one level deep, that know a key; the top level is ()."""
    homes: list[Place] = [()] if key in model.model_fields else []
    for name, field in model.model_fields.items():
        section = _model_in(field.annotation)
        if section and key in section.model_fields:
            homes.append((name,))
    return homes


def _where(section: Place) -> str:
    return f"under '{dotted(section)}'" if section else "at the top level"


def _meaning(loc: Place, model: type[BaseModel]) -> str:
    section = _model_at(model, loc[:-1])
    field = section.model_fields.get(str(loc[-1])) if section else None
    if field is None:
        return ""
    if nested := _model_in(field.annotation):
        required = [name for name, inner in nested.model_fields.items() if inner.is_required()]
        return f" with {_listing(required)}" if required else ""
    return f" ({field.description.split('. ')[0].rstrip('.')})" if field.description else ""


def _model_at(model: type[BaseModel], loc: Place) -> type[BaseModel] | None:
    """The section at a place; None where no section stands."""
    annotation: Any = model
    for part in loc:
        if section := _model_in(annotation):
            field = section.model_fields.get(str(part))
            annotation = field.annotation if field else None
        else:  # a dict key or list position: what the container holds
            held = [kind for kind in get_args(annotation) if kind is not Ellipsis]
            annotation = held[-1] if held else None
    return _model_in(annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field annotated so holds itself, not inside a container."""
    candidates = [annotation]
    if get_origin(annotation) in (Union, UnionType):
        candidates = list(get_args(annotation))
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _choices(expected: str) -> list[str]:
    return [part.strip("' ") for part in expected.replace(" or ", ", ").split(",")]


def _listing(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _shown(found: object) -> str:
    if isinstance(found, Mapping):
        return "a section"
    if isinstance(found, list | tuple):
        return f"a list of {len(found)}"
    if isinstance(found, date):  # and times
        return str(found)
    text = "nothing" if found is None else repr(found)
    return text if len(text) <= 60 else f"{text[:57]}…"
