"""Every refusal of the data rooms says what, where, and what to do."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "workflow_scripts"
FILES = sorted(
    [
        *(ROOT / "datasets").rglob("*.py"),
        *(ROOT / f"{name}.py" for name in (
            "prepare_dataset", "check_dataset", "resize_dataset", "predict", "predict_labels", "label",
            "evaluate", "import_seeds", "import_activations", "export_voc_test",
        )),
    ]
)  # fmt: skip

# What to do: an imperative, or what was expected.
ADVICE = re.compile(
    r"\b(accept|add|change|choose|convert|correct|delete|drop|expected|extract|fetch|fill|finish|free"
    r"|give|install|join|leave|list|make|mend|move|leave|must|needs?|pip|predict|put|raise|reduce|remove"
    r"|rename|replace|restore|run|save|scale|set|take|train|use|write|unpack)\b|did you mean|it knows",
    re.IGNORECASE,
)
# Texts that are put together elsewhere and hold the advice, each with tests of its own.
ELSEWHERE = re.compile(r"_HOW|advice|_missing\(|_absent\(|wrong\[0\]|hint| error$")
# Placeholders that name a place: a path, a line, an image, or text that does.
PLACE = re.compile(
    r"path|where|folder|file|table|archive|address|target|image|mask|name|place|lines|output|url|index|root"
    r"|entry|origin|annotation|reader|record|wrong|weights|out\b|list|first|self|LISTS|RESOURCES|manifest|processes|ids"
)


def text_of(node: ast.expr) -> tuple[str, str]:
    """The words of a message, and its placeholders."""
    words, places = [], []
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            words.append(part.value)
        elif isinstance(part, ast.FormattedValue):
            places.append(ast.unparse(part.value))
    return " ".join(words), " ".join(places)


def messages() -> list[tuple[str, str, str]]:
    found = []
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "InputError":
                if "_missing(" in ast.unparse(node.args[0]):
                    continue
                words, places = text_of(node.args[0])
                place = f"{file.relative_to(ROOT)}:{node.lineno}"
                if words.strip():
                    found.append((place, words, places))
    return found


MESSAGES = messages()


def test_messages_are_found() -> None:
    assert len(MESSAGES) > 80


@pytest.mark.parametrize(("place", "words", "places"), MESSAGES, ids=[m[0] for m in MESSAGES])
def test_a_message_says_where_and_what_to_do(place: str, words: str, places: str) -> None:
    assert ADVICE.search(words) or ELSEWHERE.search(places), f"{place}: no advice in {words!r}"
    assert PLACE.search(places) or "--" in words, f"{place}: names no place: {words!r}"
    assert len(words) < 500
    assert not re.search(r"Traceback|repr\(|<class|NoneType|KeyError", words)
