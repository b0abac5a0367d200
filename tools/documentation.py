"""What the project says about itself, made from what it does.

`python -m tools.documentation` (or `make docs`) writes config/README.md and
config/schema.json from the typed settings, and the rule graph in CONTRIBUTING.md from the workflow.
"""

import inspect
import json
import re
import subprocess
import sys
import tempfile
import types
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from workflow_scripts.doors.backbone import BACKBONES
from workflow_scripts.doors.dataset import DATASETS
from workflow_scripts.doors.method import METHODS
from workflow_scripts.doors.segmenter import SEGMENTERS
from workflow_scripts.planning.configuration import WorkflowSettings, configuration_model
from workflow_scripts.settings.base import Choice, Settings

ROOT = Path(__file__).resolve().parents[1]
GRAPH_BEGIN, GRAPH_END = "<!-- rule graph: made by `make docs` -->", "<!-- end of rule graph -->"
INDEX_RULE = "prepare_dataset"
REPORT_RULES = (
    "plot_figures", "make_pages", "make_gallery", "make_explorer", "render_report", "all",
)  # fmt: skip
HEADER = """# Configuration

A configuration file says what differs from the defaults below, at any depth:
`train_cam: {training: {epochs: 3}}` changes the epochs and nothing else. Several files lie over each other,
the last one on top: `snakemake all --cores all --configfile config/config.yaml mine.yaml`. An unknown key or
a value out of range is refused before anything runs, with the nearest valid key. Only `dataset.kind` is
required.

Defaults are the paper's for VOC 2012; `config.yaml` holds what the demo has instead. Editors that know JSON
schemas complete and check a file with the first line `# yaml-language-server: $schema=schema.json`.

This page and `schema.json` are made from the typed settings of `workflow_scripts/` by `make docs`.
"""
NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path"}
BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}
LENGTHS = {"min_length": "length ≥ {}", "max_length": "length ≤ {}"}


def _type(annotation: Any) -> str:
    """A field's type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        kinds = [_type(kind) for kind in arguments if kind is not types.NoneType]
        return " or ".join(kinds + ["nothing"] * (types.NoneType in arguments))
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        kind = _type(arguments[0])
        if arguments[-1] is not Ellipsis:
            return f"{len(arguments)} {kind}s"
        return f"list of {kind}s" if kind in NAMES.values() else f"list; each {kind}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Choice):
        return f"mapping with `{annotation.tag}`"
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(field: FieldInfo) -> str:
    """A field's limits."""
    found = []
    nested = [extra for kind in get_args(field.annotation) for extra in get_args(kind)[1:]]
    inner = [c for extra in nested if isinstance(extra, FieldInfo) for c in extra.metadata]
    for constraint in [*field.metadata, *inner]:
        for name, text in (BOUNDS | LENGTHS).items():
            if hasattr(constraint, name):
                found.append(text.format(getattr(constraint, name)))
        if getattr(constraint, "pattern", None):
            found.append(f"`{constraint.pattern}`")
    return ", ".join(found)


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None or value == "":
        return ""
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _leaves(
    model: type[BaseModel], defaults: BaseModel | None, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo, Any]]:
    """(dotted key, field, default) of a model, nested models flattened."""
    for name, field in model.model_fields.items():
        default = field.get_default() if defaults is None else getattr(defaults, name)
        if isinstance(default, BaseModel):
            yield from _leaves(type(default), default, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field, default


def _table(rows: Iterable[tuple[str, FieldInfo, Any]]) -> str:
    lines = ["| key | type | default | bounds | meaning |", "| --- | --- | --- | --- | --- |"]
    for key, field, default in rows:
        cells = (
            f"`{key}`", _type(field.annotation), _default(default), _bounds(field),
            " ".join((field.description or "").replace("<", "\\<").split()),
        )  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def _section(title: str, model: type[BaseModel], defaults: BaseModel | None) -> str:
    return f"{title}\n\n{inspect.getdoc(model)}\n\n{_table(_leaves(model, defaults))}\n"


def _documented() -> type[WorkflowSettings]:
    """The configuration with the sections of all methods of the package."""
    return configuration_model(METHODS.built_in())


def configuration_page() -> str:
    """config/README.md: a table for each section of the configuration, and for each entry of a door."""
    fields = _documented().model_fields
    plain = {
        name: field for name, field in fields.items() if not isinstance(field.default, BaseModel)
    }
    rows = [(name, field, field.get_default()) for name, field in plain.items()]
    parts = [HEADER, f"## The run\n\n{_table(rows)}\n"]
    for name, field in fields.items():
        if isinstance(field.default, BaseModel):
            parts.append(_section(f"## `{name}`", type(field.default), field.default))
        elif get_origin(field.annotation) is dict:
            for model in get_args(field.annotation):
                if isinstance(model, type) and issubclass(model, BaseModel):
                    parts.append(_section(f"## `{name}: {{NAME: …}}`", model, None))
    for title, door, tag in (
        ("Datasets", DATASETS, "dataset: {kind"),
        ("Backbones", BACKBONES, "backbone: {name"),
        ("Segmenters", SEGMENTERS, "train_segmentation: {segmenter"),
    ):
        parts.append(f"## {title}\n\nWhat a {door.what} can be told depends on which one it is.\n")
        for entry in door.every():
            names = ", ".join(door.names_of(entry))  # type: ignore[arg-type]
            parts.append(_section(f"### `{tag}: {names}}}`", entry, None))
    return "\n".join(parts)


def _with_choices(model: type[BaseModel]) -> type[BaseModel]:
    """The model with each field that is a `Choice` of the type of all its entries."""
    changed: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, Settings)):
            continue
        if issubclass(kind, Choice):
            entries = tuple(_with_choices(entry) for entry in kind.door().every())
            changed[name] = (Union[entries], field.default)  # noqa: UP007
        else:
            below = _with_choices(kind)
            if below is not kind:
                changed[name] = (below, field.default)
    if not changed:
        return model
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **changed)


def schema() -> str:
    """config/schema.json: the JSON schema of a configuration file."""
    model = _with_choices(_documented())
    return json.dumps(model.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _edges() -> set[tuple[str, str]]:
    """(rule, rule that reads its outputs) of the default workflow, as Snakemake sees it.

    Raises:
        RuntimeError: Snakemake cannot plan the workflow.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [
                sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
                "--directory", elsewhere, "--rulegraph", "mermaid-js", "all",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    names = dict(re.findall(r"^\s*(id\d+)\[(.+)\]$", done.stdout, re.MULTILINE))
    arrows = re.findall(r"^\s*(id\d+) --> (id\d+)$", done.stdout, re.MULTILINE)
    return {(names[start], names[end]) for start, end in arrows}


def _declared() -> list[str]:
    """All rules in the order in which the Snakefile includes them."""
    included = re.findall(r'^include: "(.+)"$', (ROOT / "Snakefile").read_text(), re.MULTILINE)
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in included)
    return re.findall(r"^(?:use rule \w+ as |rule )(\w+)", text, re.MULTILINE)


def _reached(edges: set[tuple[str, str]], start: str) -> set[str]:
    """The rules to which ways of arrows lead from one, itself included."""
    reached, waiting = {start}, [start]
    while waiting:
        rule = waiting.pop()
        following = {end for begin, end in edges if begin == rule} - reached
        reached |= following
        waiting.extend(following)
    return reached


def _reduced(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows without those to a rule of the report that another way implies: it reads a lot."""
    kept = set(edges)
    for edge in sorted(edges):
        if edge[1] in REPORT_RULES and edge[1] in _reached(kept - {edge}, edge[0]):
            kept.remove(edge)
    return kept


def rule_graph() -> str:
    """The rules as a mermaid diagram; arrows of the index go to rules to which no other way leads.

    Methods read each other's results, so that the arrows between their rules go round. Arrows to rules of the
    report are left out where another way leads there.

    Rules stand in the order in which they are reached from the index, so that the text does not depend
    on Snakemake's own order.
    """
    # What reads no image, such as the resolved configuration, is not reached from the index.
    every = _edges()
    indexed = _reached(every, INDEX_RULE)
    edges = {(start, end) for start, end in every if start in indexed}
    readers = {end for start, end in edges if start == INDEX_RULE}
    edges = {(start, end) for start, end in edges if start != INDEX_RULE}
    for rule in _declared():
        if rule in readers and rule not in _reached(edges, INDEX_RULE):
            edges.add((INDEX_RULE, rule))
    edges = _reduced(edges)
    order = {INDEX_RULE: 0}
    waiting = deque(order)
    while waiting:
        rule = waiting.popleft()
        for following in sorted(end for start, end in edges if start == rule):
            if following not in order:
                order[following] = len(order)
                waiting.append(following)
    arrows = sorted(edges, key=lambda edge: (order[edge[0]], order[edge[1]]))
    return "\n".join(["flowchart TB", *(f"    {start} --> {end}" for start, end in arrows)])


def between(text: str, begin: str, end: str, content: str) -> str:
    """A text with the part between two marker lines replaced.

    Raises:
        ValueError: The markers are missing.
    """
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"the document lacks the lines {begin} and {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def with_graph(page: str, graph: str) -> str:
    """A page with the rule graph between its markers."""
    return between(page, GRAPH_BEGIN, GRAPH_END, f"```mermaid\n{graph}\n```")


def main() -> None:
    """Write everything."""
    (ROOT / "config" / "README.md").write_text(configuration_page(), encoding="utf-8")
    (ROOT / "config" / "schema.json").write_text(schema(), encoding="utf-8")
    page = ROOT / "CONTRIBUTING.md"
    page.write_text(with_graph(page.read_text(encoding="utf-8"), rule_graph()), encoding="utf-8")


if __name__ == "__main__":
    main()
