"""Command-line flags made from typed settings."""

import argparse
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from workflow_scripts.doors.door import load_plugins
from workflow_scripts.settings.base import (
    Choice,
    Settings,
    concrete,
    flag_name,
    tagged_value,
    validate,
)

POSITIONAL: JsonDict = {"positional": True}

First = TypeVar("First", bound=BaseModel)
Second = TypeVar("Second", bound=BaseModel)


def _without_none(annotation: Any) -> Any:
    """`X | None` → `X`."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation


def _plain(kind: Any) -> Any:
    """The type without its bounds."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _metavar(kind: Any) -> str:
    names = {int: "N", float: "X", Path: "PATH", str: "TEXT"}
    return names.get(kind, "VALUE")


def _help(field: FieldInfo, default: Any) -> str:
    text = (field.description or "").replace("%", "%%")
    if default is PydanticUndefined:
        return f"{text} (required)"
    if default is None:
        return text
    shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else default
    return f"{text} (default: {shown})"


def add_flags(
    parser: argparse._ArgumentGroup,
    model: type[BaseModel],
    prefix: tuple[str, ...] = (),
    defaults: BaseModel | None = None,
) -> None:
    """Add one flag a field, nested models with their name in front.

    Values stay text, flags not given stay absent: validation and defaults are the model's. A field with
    `json_schema_extra=POSITIONAL` is no flag but an argument without a name.
    """
    for name, field in model.model_fields.items():
        path = (*prefix, name)
        kind = _without_none(field.annotation)
        default = field.get_default() if defaults is None else getattr(defaults, name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            add_flags(parser, kind, path, default)
            continue
        if field.json_schema_extra == POSITIONAL:
            parser.add_argument(name, metavar=name.upper(), help=field.description)
            continue
        options: dict[str, Any] = {
            "dest": ".".join(path),
            "default": argparse.SUPPRESS,
            "help": _help(field, default),
        }
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif get_origin(kind) is Literal:
            options["metavar"] = "{" + ",".join(map(str, get_args(kind))) + "}"
        elif get_origin(kind) in (list, tuple):
            options |= {"nargs": "*", "metavar": _metavar(_plain(get_args(kind)[0]))}
        else:
            options["metavar"] = _metavar(kind)
        parser.add_argument(flag_name(path), **options)


def _nested(flat: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """{"crf.iterations": 5} → {"crf": {"iterations": 5}}, restricted to the fields of one model."""
    values: dict[str, Any] = {}
    for dotted, value in flat.items():
        head, *rest = dotted.split(".")
        if head not in model.model_fields:
            continue
        target = values
        for key in [head, *rest][:-1]:
            target = target.setdefault(key, {})
        target[[head, *rest][-1]] = value
    return values


PLUGINS = "--plugins"


def load_given_plugins(argv: Sequence[str]) -> None:
    """Load the plug-ins that a command line names, before its other flags are known.

    Raises:
        InputError: One cannot be used; names file and line.
    """
    files: list[str] = []
    taking = False
    for word in argv:
        if word.startswith("--"):
            taking = word == PLUGINS
            files += [word.removeprefix(f"{PLUGINS}=")] if word.startswith(f"{PLUGINS}=") else []
        elif taking:
            files.append(word)
    load_plugins(files)


def _flag_value(argv: Sequence[str], flag: str) -> str | None:
    """Last value of a flag, given as `--flag value` or `--flag=value`."""
    found = None
    for position, word in enumerate(argv):
        if word == flag and position + 1 < len(argv):
            found = argv[position + 1]
        elif word.startswith(flag + "="):
            found = word.removeprefix(flag + "=")
    return found


def _tags(
    model: type[BaseModel], argv: Sequence[str], prefix: tuple[str, ...] = (), default: Any = None
) -> dict[str, Any]:
    """Values of the flags that choose which other flags there are (see `Choice`), nested as the model is."""
    values: dict[str, Any] = {}
    if issubclass(model, Choice):
        value = _flag_value(argv, flag_name((*prefix, model.tag)))
        if value is not None:
            values[model.tag] = value
        tag = tagged_value(model, values, default)
        if isinstance(tag, str):
            model = model.chosen(tag)
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            below = _tags(field.annotation, argv, (*prefix, name), field.default)
            if below:
                values[name] = below
    return values


def flags_of(model: type[Second], argv: Sequence[str]) -> type[Second]:
    """The model whose fields are the flags that a command line may hold: each `Choice` as it chooses.

    Raises:
        InputError: It chooses what there is not.
    """
    tags = _tags(model, argv)
    if issubclass(model, Choice):
        tag = tagged_value(model, tags, None)
        if isinstance(tag, str):
            model = model.chosen(tag)
    return concrete(model, tags)


def parse(
    description: str | None,
    files: type[First],
    settings: type[Second],
    argv: Sequence[str] | None,
    program: str,
) -> tuple[First, Second]:
    """Read a stage's command line into its two models: the files it works on, and its settings.

    Args:
        description: The stage's docstring, shown by `--help`.
        files: Model of the inputs, outputs and the like.
        settings: Model of what changes the result. Its field names differ from those of `files`.
        argv: Arguments, `sys.argv` if None.
        program: Shown as the program's name.

    Raises:
        InputError: A value is missing or out of range.
    """
    words = sys.argv[1:] if argv is None else argv
    if "plugins" in files.model_fields:
        load_given_plugins(words)
    settings = flags_of(settings, words)
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_flags(parser.add_argument_group("inputs, outputs"), files)
    if settings.model_fields:
        add_flags(parser.add_argument_group("settings"), settings)
    flat = vars(parser.parse_args(words))
    return (
        validate(files, _nested(flat, files), program),
        validate(settings, _nested(flat, settings), program),
    )
