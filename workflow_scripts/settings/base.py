"""What the typed settings of all stages share: closed, immutable models that render as flags.

A stage is started as `python -m workflow_scripts.<stage> --flag value …`. Its flags, their help, the
configuration file, its schema and its documentation all come from one pydantic model, so that they
cannot disagree. Flags are rendered from the *validated* model in the order of its fields: reordering a
YAML file, or writing `3` for `3.0`, gives the same command line and hence reruns nothing.
"""

import difflib
import re
import shlex
from collections.abc import Iterator
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

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
            if isinstance(field.default, BaseModel) and isinstance(given, dict):
                completed[name] = merge(field.default.model_dump(), given)
        return completed


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


def validate(model: type[Model], values: Any, where: str) -> Model:
    """Validate values against a model; `InputError` in place of pydantic's own error."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, model, where) from None
