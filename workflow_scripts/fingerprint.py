"""Which code can change what a stage makes, as a digest for each module; and digests of other ingredients.

Snakemake tracks neither modules that a script imports nor a module called from `shell:`. Each rule
therefore carries this mapping among its parameters, so that an edit of `models/amn.py` reruns what
trains AMN and what follows, and nothing else.

A file's digest is over its syntax tree without words: comments, formatting, docstrings, log messages,
texts of errors, descriptions of fields and imports for type checkers do not count. Rooms that deal with
the machine and the reader alone (`CANNOT_CHANGE_RESULTS`) do not count at all; what they import does.

An import is a statement. A module that code looks up by a computed name counts only where a caller names
it as one of `entries`.
"""

import ast
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from workflow_scripts.errors import InputError

PACKAGE = "workflow_scripts"
ROOT = Path(__file__).resolve().parents[1]

# Whatever is edited in these, a stage that ends well has made the same files. A room that reads flags or
# settings, chooses images or computes must never stand here.
CANNOT_CHANGE_RESULTS = frozenset({
    "console.job",  # processes and signals
    "console.progress",
    "console.stage",  # log, lock, messages and exit code around the work
    "errors",
    "fingerprint",
    "planning.failure",
    "planning.slurm_plugin",
    "storage.atomic",
    "storage.ownership",
    "training.gpus",  # which of them is whose
    "training.launch",
})  # fmt: skip


class _Words(ast.NodeTransformer):
    """Takes out of a syntax tree what is written for readers and for type checkers."""

    def _body(self, node: ast.AST) -> ast.AST:
        body: list[ast.stmt] = node.body  # type: ignore[attr-defined]
        if (
            body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            # A body cannot be empty in the tree's grammar; for a digest it can.
            node.body = body[1:]  # type: ignore[attr-defined]
        return self.generic_visit(node)

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _body

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Log messages: `logger.warning(…)` as a statement."""
        match node.value:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"))):
                return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Imports for type checkers alone: `if TYPE_CHECKING:`."""
        match node.test:
            case ast.Name(id="TYPE_CHECKING"):
                return [self.visit(statement) for statement in node.orelse]
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Texts of errors: what they are made of counts, the words do not."""
        match node.exc:
            case ast.Call(args=args):
                for part in (part for argument in args for part in ast.walk(argument)):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        part.value = ""
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Descriptions of fields, for `--help` and the documentation."""
        match node.func:
            case ast.Name(id="Field"):
                node.keywords = [word for word in node.keywords if word.arg != "description"]
        return self.generic_visit(node)


@cache
def _parsed(text: str, name: str) -> tuple[str, frozenset[str]]:
    """(digest, everything that may be a module it imports) of a source text."""
    tree = _Words().visit(ast.parse(text, filename=name))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    code = ast.dump(tree, include_attributes=False)
    return hashlib.sha256(code.encode()).hexdigest()[:12], frozenset(imported)


EMPTY = _parsed("", "")[0]


def _file_of(module: str, root: Path) -> Path | None:
    """Source file of a module of the package, None if there is none."""
    stem = root.joinpath(*module.split("."))
    for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _read(path: Path, root: Path) -> tuple[str, frozenset[str]]:
    """(digest, modules of the package that it imports, with their parent packages) of a file."""
    digest, imported = _parsed(path.read_text(encoding="utf-8"), str(path))
    ours = {name for name in imported if name.split(".")[0] == PACKAGE and _file_of(name, root)}
    parents = {
        name.rsplit(".", depth)[0] for name in ours for depth in range(1, name.count(".") + 1)
    }
    return digest, frozenset(ours | parents)


def _read_plugin(file: str | Path, root: Path) -> tuple[str, frozenset[str]]:
    try:
        return _read(Path(file), root)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise InputError(f"plug-in {file}: {reason}; correct its path in `plugins`") from None
    except UnicodeDecodeError:
        raise InputError(f"plug-in {file}: expected Python in UTF-8; save it as that") from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        reason = getattr(error, "msg", None) or str(error)
        raise InputError(f"plug-in {file}, line {line}: {reason}; correct that line") from None


def code_digests(
    stage: str,
    *,
    entries: Sequence[str] = (),
    files: Sequence[str | Path] = (),
    root: Path = ROOT,
) -> dict[str, str]:
    """Digest of every module that can change what a stage makes, the stage's own included.

    Args:
        stage: Name of a stage module, for instance "train_segmentation".
        entries: Further modules of the package that the stage will look up by name, for instance
            "methods.cam".
        files: Files of a user's that it will load, outside of the package: they count, and what they
            import from the package.
        root: Folder that holds the package.

    Returns:
        {"models.cam": "0a1b…", …}, modules sorted by name, then files as they were given. Empty modules
        are left out: they run nothing.

    Raises:
        FileNotFoundError: There is no such stage or entry.
        InputError: One of `files` cannot be read as Python.
    """
    waiting = [f"{PACKAGE}.{name}" for name in (stage, *entries)]
    for start in waiting:
        if _file_of(start, root) is None:
            raise FileNotFoundError(f"no module {start} under {root}")
    plugins = {}
    for file in files:
        plugins[str(file)], imported = _read_plugin(file, root)
        waiting.extend(imported)
    digests: dict[str, str] = {}
    while waiting:
        module = waiting.pop()
        name = module.removeprefix(f"{PACKAGE}.")
        if name not in digests:
            path = _file_of(module, root)
            assert path is not None
            digests[name], imported = _read(path, root)
            waiting.extend(imported)
    counted = {
        name: digest
        for name, digest in sorted(digests.items())
        if digest != EMPTY and name not in CANNOT_CHANGE_RESULTS
    }
    return counted | plugins


def file_digests(files: Iterable[Path]) -> dict[str, str]:
    """Digest of each file that is no module, by its path below the package: styles, scripts, captions.

    Raises:
        FileNotFoundError: A file is not there.
    """
    return {
        str(path.relative_to(ROOT / PACKAGE)): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in sorted(files)
    }
