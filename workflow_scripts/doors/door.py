"""A door: a registry of entries, by name, behind one small protocol.

An entry is a class derived from the protocol's. Three kinds of files have entries, the first and the last
one each, plug-ins any number:

- modules of the door's package here, each called as its entry is;
- plug-ins: files that a configuration names (`plugins: [my_method.py]`);
- installed packages that declare entry points of the door's group, called as the entry is.

An entry is imported when somebody asks for it by name, so that a configuration pays for what it uses. A
plug-in is code: it runs with the rights of whoever starts the workflow.
"""

import ast
import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from workflow_scripts.errors import InputError
from workflow_scripts.settings.base import Choice

Protocol = TypeVar("Protocol")
Result = TypeVar("Result")
PACKAGE = "workflow_scripts"
ROOT = Path(__file__).resolve().parents[2]

# All doors whose protocol was imported: the file of a plug-in may have entries of any.
_doors: list["Door[Any]"] = []
_loaded: dict[Path, ModuleType] = {}


@cache
def installed_entries(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name; looked up once, which reads every installed package's metadata."""
    return {point.name: point for point in entry_points(group=group)}


class Door(Generic[Protocol]):
    """The entries of one kind.

    Attributes:
        what: What an entry is called in messages: "method", "backbone".
        package: Dotted name of the package whose modules are entries.
        protocol: The class that entries derive from; its attribute `name` or `names` says how an entry is
            asked for.
        group: Group of the entry points by which installed packages add entries.
    """

    def __init__(self, what: str, package: str, protocol: type[Protocol]) -> None:
        self.what, self.package, self.protocol = what, package, protocol
        self.group = f"wsss.{package.rpartition('.')[2]}"
        self._plugged: dict[str, type[Protocol]] = {}
        _doors.append(self)

    def names(self) -> list[str]:
        """Names of all entries: those of this package first, then of plug-ins and installed packages."""
        return list(dict.fromkeys([*self.built_in(), *self._plugged, *self._installed()]))

    def built_in(self) -> list[str]:
        """Names of the entries of this package: of its modules."""
        folder = ROOT.joinpath(*self.package.split("."))
        return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")

    def _installed(self) -> dict[str, EntryPoint]:
        return installed_entries(self.group)

    def get(self, name: str) -> type[Protocol]:
        """The entry of a name.

        Raises:
            InputError: There is none, or its file cannot be used; names the nearest, or file and line.
        """
        if name in self._plugged:
            return self._plugged[name]
        if name in self.built_in():
            return self._only(importlib.import_module(f"{self.package}.{name}"))
        installed = self._installed()
        if name in installed:
            module = _guarded(
                lambda: importlib.import_module(installed[name].module), installed[name].value
            )
            return self._only(module)
        known = self.names()
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        advice = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}"
        raise InputError(f"there is no {self.what} `{name}`; {advice}")

    def every(self) -> list[type[Protocol]]:
        """All entries of this package, for documentation; imports them."""
        return [
            self._only(importlib.import_module(f"{self.package}.{name}"))
            for name in self.built_in()
        ]

    def modules(self, name: str) -> list[str]:
        """Modules of this package that hold the entry, for digests of code: one, or none."""
        module = self.get(name).__module__
        return [module.removeprefix(f"{PACKAGE}.")] if module.startswith(f"{PACKAGE}.") else []

    def files(self, name: str) -> list[Path]:
        """Files outside of this package that hold the entry: that of a plug-in or installed module."""
        entry = self.get(name)
        if entry.__module__.startswith(f"{PACKAGE}."):
            return []
        plugged = [path for path, module in _loaded.items() if module.__name__ == entry.__module__]
        return plugged or [Path(inspect.getfile(entry))]

    def plug_ins(self, name: str) -> list[Path]:
        """The plug-in that holds the entry, to be given to a stage as `--plugins`: one, or none."""
        return [file for file in self.files(name) if file in _loaded]

    def entries_of(self, module: ModuleType) -> list[type[Protocol]]:
        """Classes of a module that derive from the protocol and are defined there."""
        return [
            found
            for found in vars(module).values()
            if isinstance(found, type)
            and issubclass(found, self.protocol)
            and found.__module__ == module.__name__
            and not found.__name__.startswith("_")
        ]

    def _only(self, module: ModuleType) -> type[Protocol]:
        found = self.entries_of(module)
        if len(found) != 1:
            raise InputError(
                f"{module.__file__}: defines {len(found)} classes derived from {self.protocol.__name__}, "
                "expected one"
            )
        check(found[0], self.protocol)
        return found[0]

    def names_of(self, entry: type[Protocol]) -> tuple[str, ...]:
        """How an entry is asked for: its attribute `names`, else its `name`."""
        several = hasattr(self.protocol, "names")
        names = entry.names if several else (getattr(entry, "name", None),)  # type: ignore[attr-defined]
        if not names or not all(isinstance(name, str) and name for name in names):
            lacking = (
                '`names: ClassVar[tuple[str, ...]] = ("…",)`'
                if several
                else '`name: ClassVar[str] = "…"`'
            )
            raise InputError(
                f"{place_of(entry)}: class {entry.__name__} lacks `{'names' if several else 'name'}`; add "
                f"{lacking}, by which a configuration asks for the {self.what}"
            )
        return tuple(names)

    def add(self, entry: type[Protocol]) -> None:
        """Take the entry of a plug-in.

        Raises:
            InputError: It is not complete, or its name is taken.
        """
        check(entry, self.protocol)
        for name in self.names_of(entry):
            if name in self._plugged or name in self.built_in():
                raise InputError(
                    f"{place_of(entry)}: the name `{name}` is taken by another {self.what}; choose another"
                )
            self._plugged[name] = entry


def check(entry: type, protocol: type) -> None:
    """See that an entry defines all that its protocol leaves open.

    Raises:
        InputError: It lacks a method, or its tag a default; names file, line and what to add.
    """
    if issubclass(entry, Choice) and entry.tag not in vars(entry).get("__annotations__", {}):
        raise InputError(
            f"{place_of(entry)}: class {entry.__name__} lacks a field `{entry.tag}` of its own, with the "
            f'value by which a configuration asks for it: `{entry.tag}: str = "…"`'
        )
    lacking = sorted(getattr(entry, "__abstractmethods__", ()))
    if lacking:
        missing = lacking[0]
        signature = inspect.signature(getattr(protocol, missing, lambda: None))
        more = f" (and {', '.join(lacking[1:])})" if len(lacking) > 1 else ""
        raise InputError(
            f"{place_of(entry)}: class {entry.__name__} lacks `{missing}`{more}, which a "
            f"{protocol.__name__} must have: def {missing}{signature}"
        )


def place_of(entry: type) -> str:
    """File and line of a class."""
    module = sys.modules[entry.__module__]
    file = module.__file__ or entry.__module__
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == entry.__name__
    ]
    return f"{file}:{lines[0]}" if lines else file


def load_plugins(files: Sequence[Path | str]) -> None:
    """Run plug-ins and take their entries; a file that was loaded already is passed over.

    Args:
        files: Paths of Python files, as the configuration or `--plugins` gives them.

    Raises:
        InputError: A file is missing, fails, has no entry, or one that is not complete; names file and line.
    """
    for file in map(Path, files):
        if any(file.resolve() == loaded.resolve() for loaded in _loaded):
            continue
        _loaded[file] = module = _run(file)
        found = [(door, entry) for door in _doors for entry in door.entries_of(module)]
        if not found:
            kinds = ", ".join(door.protocol.__name__ for door in _doors)
            raise InputError(
                f"plugins: {file}: defines no entry; expected a class derived from one of {kinds}"
            )
        for door, entry in found:
            door.add(entry)


def _run(file: Path) -> ModuleType:
    if not file.is_file():
        raise InputError(
            f"plugins: {file}: no such file; give the path of a Python file, from the folder where the "
            "workflow is started"
        )
    name = f"plugin_{file.stem}"
    if file.suffix != ".py" or not name.isidentifier():
        raise InputError(
            f"plugins: {file}: expected a Python file, called like a module: my_method.py"
        )
    taken = [path for path, module in _loaded.items() if module.__name__ == name]
    if taken:
        raise InputError(f"plugins: {file}: {taken[0]} has the same name; rename one of them")
    specification = importlib.util.spec_from_file_location(name, file.absolute())
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Loader workers unpickle what a plug-in defines by this name.
    sys.modules[name] = module
    loader = specification.loader
    try:
        _guarded(lambda: loader.exec_module(module), f"plugins: {file}")
    except InputError:
        del sys.modules[name]
        raise
    return module


def _guarded(action: Callable[[], Result], what: str) -> Result:
    """Do what runs foreign code at its import; any exception becomes one screen with file and line."""
    try:
        return action()
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError):
            place, text = f"{error.filename}:{error.lineno}", error.msg
        else:
            every = traceback.extract_tb(error.__traceback__)
            foreign = [f for f in every if f.filename != __file__ and "importlib" not in f.filename]
            # The user's own line, not that of a library that it calls.
            frames = [f for f in foreign if "site-packages" not in f.filename] or foreign
            place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else what
            text = f"{type(error).__name__}: {error}"
            if frames and frames[-1].line:
                text += f"\n    {frames[-1].line}"
        raise InputError(f"{what}: cannot be imported; {place}: {text}") from None
