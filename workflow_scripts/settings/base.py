"""What the typed settings of all stages share: closed, immutable models that render as flags.

A stage is started as `python -m workflow_scripts.<stage> --flag value …`. Its flags, their help, the
configuration file, its schema and its documentation all come from one pydantic model, so that they
cannot disagree. Flags are rendered from the *validated* model in the order of its fields: reordering a
YAML file, or writing `3` for `3.0`, gives the same command line and hence reruns nothing.
"""

import difflib
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticUndefined

from workflow_scripts.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def merge(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Values over defaults, key by key at every depth."""
    merged = dict(defaults)
    for key, value in given.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values do not change after validation.

    A nested model that is given in part keeps the *stage's* defaults for the rest: with
    `training = TrainingSettings(batch_size=10)` as a field, `training: {epochs: 3}` means 3 epochs
    at batch 10. Optional values default to None wherever they appear, so that a flag that is left
    out always means None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _complete_nested(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        completed = dict(values)
        for name, field in cls.model_fields.items():
            given = values.get(name)
            if isinstance(field.default, Settings) and isinstance(given, dict):
                completed[name] = overlaid(field.default, given)
        return completed

    def __eq__(self, other: object) -> bool:
        """Whether the other settings say the same, be their choices written as types or not."""
        return isinstance(other, Settings) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def chosen_entries(self) -> list[tuple[Any, str]]:
        """The entries that the values themselves ask for, each as its door and name."""
        return []

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """All values, those of a `Choice` included."""
        return super().model_dump(**{"serialize_as_any": True, **options})

    def model_dump_json(self, **options: Any) -> str:
        """The same as JSON."""
        return super().model_dump_json(**{"serialize_as_any": True, **options})


def expanded(path: str | None) -> str | None:
    """A path with the home folder in place of a leading `~`, and the values of variables that are set."""
    return None if path is None else os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111 (keeps a plain name plain)


class Choice(Settings):
    """Settings of which one, the tag, says what the others are: `name: resnet50` or `kind: voc12`.

    A stage or a section of the configuration names the base of all choices as the type of a field; which
    of them holds is found before validation, see `concrete`.
    """

    tag: ClassVar[str]

    @classmethod
    def door(cls) -> Any:
        """The door (`doors/door.py`) whose entries are the choices."""
        raise NotImplementedError

    def chosen_entries(self) -> list[tuple[Any, str]]:
        """See `Settings`."""
        return [(self.door(), getattr(self, self.tag))]

    @classmethod
    def chosen(cls, name: str) -> type[Self]:
        """The settings that belong to a value of the tag.

        Raises:
            InputError: There are none; the message names the nearest.
        """
        entry: type[Self] = cls.door().get(name)
        return entry

    @model_validator(mode="wrap")
    @classmethod
    def _dispatch(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(values, dict):
            tag = tagged_value(cls, values, None)
            chosen = cls.chosen(tag) if isinstance(tag, str) else cls
            if not issubclass(cls, chosen):
                return chosen.model_validate(values)
        return handler(values)


def overlaid(default: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """A default's values with given ones over them, at every depth.

    Where another kind of a `Choice` is given, those values of the default stay that it knows too.
    """
    base = default
    if isinstance(default, Choice):
        tag = tagged_value(type(default), given, default)
        chosen = default.chosen(tag) if isinstance(tag, str) else type(default)
        if not isinstance(default, chosen):
            base = _carried_over(default, chosen)
    values = dict(given)
    for name in type(base).model_fields:
        value, over = getattr(base, name), given.get(name)
        if isinstance(value, Settings):
            if isinstance(over, Mapping):
                values[name] = overlaid(value, over)
            elif name not in given:
                values[name] = value.model_dump()
        elif isinstance(value, dict) and isinstance(over, dict):
            values[name] = merge(value, over)
        elif name not in given:
            values[name] = value
    return values


def tagged_value(model: type[Choice], given: Any, default: Any) -> Any:
    """Value of the tag in what was given, else in a default, else in the model's own."""
    if isinstance(given, Mapping) and model.tag in given:
        return given[model.tag]
    if isinstance(default, Choice):
        return getattr(default, model.tag)
    field = model.model_fields.get(model.tag)
    return None if field is None or field.is_required() else field.default


def concrete(model: type[Model], values: Any) -> type[Model]:
    """The model with each field whose type is a `Choice` given the type that the values choose.

    Of a default, what the chosen type knows stays.

    Args:
        model: A stage's settings, or the whole configuration.
        values: What is to be validated; anything that is no mapping chooses nothing.

    Raises:
        InputError: A choice does not exist.
    """
    given = values if isinstance(values, Mapping) else {}
    changed: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, Settings)):
            continue
        chosen: type[Settings] = kind
        if issubclass(kind, Choice):
            tag = tagged_value(kind, given.get(name), field.default)
            if isinstance(tag, str):
                try:
                    chosen = kind.chosen(tag)
                except InputError as error:
                    raise InputError(f"{name}.{kind.tag}: {error}") from None
        try:
            chosen = concrete(chosen, given.get(name))
        except InputError as error:
            raise InputError(f"{name}.{error}") from None
        if chosen is not kind:
            changed[name] = (chosen, _carried_over(field.default, chosen))
    if not changed:
        return model
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **changed)


def _carried_over(default: Any, chosen: type[Settings]) -> Any:
    """A default as an instance of the chosen type, as far as that knows its values."""
    if not isinstance(default, Settings):
        return ... if default is PydanticUndefined else default
    known: dict[str, Any] = {}
    for name, field in chosen.model_fields.items():
        if name not in type(default).model_fields:
            continue
        value, kind = getattr(default, name), field.annotation
        if isinstance(value, Settings) and isinstance(kind, type) and issubclass(kind, Settings):
            value = _carried_over(value, kind)
        known[name] = value
    if issubclass(chosen, Choice) and not issubclass(chosen, type(default)):
        # Another kind has another value of the tag: its own.
        known.pop(chosen.tag, None)
    return chosen(**known)


def flag_name(path: tuple[str, ...]) -> str:
    """Command-line flag of a (nested) field: ("crf", "gaussian_sxy") → "--crf-gaussian-sxy"."""
    return "--" + "-".join(path).replace("_", "-")


def leaves(
    settings: BaseModel, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All (path, value) pairs of a model, nested models flattened, in the order of the fields."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def render_flags(settings: BaseModel, exclude: frozenset[str] = frozenset()) -> str:
    """Settings as a canonical command line that a shell can read back.

    Booleans become `--flag` or `--no-flag`, lists `--flag a b c` and absent optional values nothing.

    Args:
        settings: A validated model.
        exclude: Top-level fields to leave out.
    """
    words: list[str] = []
    for path, value in leaves(settings):
        if path[0] in exclude or value is None:
            continue
        flag = flag_name(path)
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, (list, tuple)):
            words.extend([flag, *(shlex.quote(str(item)) for item in value)])
        elif str(value).startswith("-"):
            # Else a negative number, or a word with a dash, would pass for a flag.
            words.append(shlex.quote(f"{flag}={value}"))
        else:
            words.extend([flag, shlex.quote(str(value))])
    return " ".join(words)


def _place(model: type[BaseModel], location: tuple[Any, ...]) -> tuple[str, list[str]]:
    """Dotted name of an error's location, and the fields that are valid where its last element is.

    The tag of a union of models stands in the location, but is no key of the configuration; the keys of
    a mapping to models are free.
    """
    names: list[str] = []
    valid: list[str] = []
    current: type[BaseModel] | None = model
    tagged: dict[str, type[BaseModel]] = {}
    mapped: type[BaseModel] | None = None
    for key in map(str, location):
        if key in tagged:
            current, tagged = tagged[key], {}
            continue
        if current is None and mapped is None and not key.isdigit():
            # Which member of a union of plain types was tried.
            continue
        names.append(key)
        if mapped is not None:
            current, mapped = mapped, None
            continue
        valid = list(current.model_fields) if current else []
        field = current.model_fields.get(key) if current else None
        current = None
        if field is not None:
            kinds = get_args(field.annotation) or (field.annotation,)
            models = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
            if isinstance(field.discriminator, str):
                tagged = {m.model_fields[field.discriminator].default: m for m in models}
            elif get_origin(field.annotation) is dict:
                mapped = models[0] if models else None
            elif len(models) == 1:
                current = models[0]
    return ".".join(names) or "(top level)", valid


def _nearest(word: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"valid here: {', '.join(valid)}"


def _line(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """One problem in words."""
    kind, location = problem["type"], problem["loc"]
    name, valid = _place(model, location)
    if kind == "extra_forbidden":
        return f"{name}: unknown key; {_nearest(str(location[-1]), valid)}"
    if kind == "missing":
        return f"{name}: missing"
    if kind.startswith("union_tag"):
        context = problem["ctx"]
        tags = re.findall(r"'(\w+)'", context.get("expected_tags", ""))
        name += "." + context["discriminator"].strip("'")
        if kind == "union_tag_invalid":
            return f"{name}: unknown value `{context['tag']}`; {_nearest(context['tag'], tags)}"
        return f"{name}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict):
        # A rule over several fields, which names them itself.
        return f"{name}: {message}"
    return f"{name}: {message} (got {problem['input']!r:.80})"


def explain(error: ValidationError, model: type[BaseModel], where: str) -> InputError:
    """Turn pydantic's errors into one screen of text that names each field and the nearest valid one.

    Args:
        error: What validation raised.
        model: The model that was validated.
        where: Where the values came from, for instance "config/config.yaml".
    """
    lines = [f"{where}: {error.error_count()} problem(s) in the configuration"]
    lines += [f"  {_line(problem, model)}" for problem in error.errors()[:12]]
    if error.error_count() > 12:
        lines.append(f"  … and {error.error_count() - 12} more")
    return InputError("\n".join(lines))


def plain(error: ValidationError) -> str:
    """Pydantic's problems in a line: field and what is wrong with it."""
    problems = error.errors()
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems[:3])


def validate(model: type[Model], values: Any, where: str) -> Model:
    """Validate values against a model; `InputError` in place of pydantic's own error."""
    try:
        known = concrete(model, values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    try:
        return known.model_validate(values)
    except ValidationError as error:
        raise explain(error, known, where) from None
