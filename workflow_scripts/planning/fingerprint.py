"""Which code a stage runs, as a digest for each module; and digests of its other ingredients.

Snakemake tracks neither modules that a script imports nor a module called from `shell:`. Each rule
therefore carries this mapping among its parameters, so that an edit of `models/amn.py` reruns
`train_amn` and what follows, and nothing else. A file's digest is over its syntax tree without
docstrings: comments and formatting do not count.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = "workflow_scripts"
ROOT = Path(__file__).resolve().parents[2]


def _file_of(module: str, root: Path) -> Path | None:
    """Source file of a module of the package, None if there is none."""
    stem = root.joinpath(*module.split("."))
    for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imported(tree: ast.Module, root: Path) -> set[str]:
    """Modules of the package that a syntax tree imports, anywhere, with their parent packages."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    ours = {name for name in names if name.split(".")[0] == PACKAGE and _file_of(name, root)}
    parents = {
        name.rsplit(".", depth)[0] for name in ours for depth in range(1, name.count(".") + 1)
    }
    return ours | parents


def _without_docstrings(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body
            first = body[0] if body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                # A body cannot be empty in the tree's grammar; for a digest it can.
                node.body = body[1:]
    return ast.dump(tree, include_attributes=False)


@cache
def _read(module: str, root: Path) -> tuple[str, frozenset[str]]:
    """(digest, imported modules of the package) of one module."""
    path = _file_of(module, root)
    assert path is not None
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    imported = frozenset(_imported(tree, root))
    digest = hashlib.sha256(_without_docstrings(tree).encode()).hexdigest()[:12]
    return digest, imported


def code_digests(stage: str, root: Path = ROOT) -> dict[str, str]:
    """Digest of every module that a stage can import, the stage's own included.

    Args:
        stage: Name of a stage module, for instance "train_cam".
        root: Folder that holds the package.

    Returns:
        {"models.cam": "0a1b…", …}, sorted by name. Empty files are left out: they run nothing.

    Raises:
        FileNotFoundError: There is no such stage.
    """
    start = f"{PACKAGE}.{stage}"
    if _file_of(start, root) is None:
        raise FileNotFoundError(f"no stage module {start} under {root}")
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(_read(module, root)[1] - seen)
    empty = hashlib.sha256(_without_docstrings(ast.parse("")).encode()).hexdigest()[:12]
    digests = {module: _read(module, root)[0] for module in sorted(seen)}
    return {
        module.removeprefix(f"{PACKAGE}."): digest
        for module, digest in digests.items()
        if digest != empty
    }


def file_digests(files: Iterable[Path]) -> dict[str, str]:
    """Digest of each file that is no module, by its path below the package: styles, scripts, captions.

    Raises:
        FileNotFoundError: A file is not there.
    """
    return {
        str(path.relative_to(ROOT / PACKAGE)): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in sorted(files)
    }
