"""A folder that a command fills with files for each image: it overwrites nothing that is not its own.

What the command wrote is listed in the folder. A second run replaces it, and removes what it does not write
again: no result outlives its image, and no file of somebody else is touched.
"""

import json
import logging
from collections.abc import Collection, Iterable
from pathlib import Path

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path

logger = logging.getLogger(__name__)


class ResultFolder:
    """The files of one run of a command; paths are relative to the folder."""

    def __init__(
        self, folder: Path, command: str, planned: Collection[Path], *, replaces: bool = True
    ) -> None:
        """Claim the files that the run may write.

        Args:
            folder: The folder; it may not exist yet.
            command: Name of the command; the list is `{command}.json`.
            planned: All files that the run may write.
            replaces: Whether what an earlier run wrote and this one does not may be removed.

        Raises:
            InputError: One of them exists and no earlier run has written it, or the list is damaged, or
                there is something that may not be removed.
        """
        self.folder = folder
        self._list = folder / f"{command}.json"
        self._command = command
        self._written: set[str] = set()
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: a file of that name exists; give `--out` a folder")
        outside = next((p for p in planned if p.is_absolute() or ".." in p.parts), None)
        if outside is not None:
            raise InputError(
                f"{outside}: a result of that name would lie outside of {folder}; rename what it is made of"
            )
        before = self._read()
        now = {path.as_posix() for path in planned}
        foreign = sorted(name for name in now - before if (folder / name).exists())
        if foreign:
            raise InputError(
                f"{folder}: {len(foreign)} file(s) there would be overwritten that no earlier {command}"
                f" has written, for instance {foreign[0]}. Give another `--out`, or move them."
            )
        others = sorted(name for name in before - now if (folder / name).exists())
        if others and not replaces:
            raise InputError(
                f"{folder}: holds {len(others)} more file(s) of an earlier {command}, for instance"
                f" {others[0]}, which a run of some images would remove, corrections included. Give another"
                " `--out`."
            )
        self._known = before | now
        self._write(self._known)

    def path(self, name: Path) -> Path:
        """Return the whole path of a file, which counts as written."""
        self._written.add(name.as_posix())
        return self.folder / name

    def finish(self) -> None:
        """Remove what earlier runs wrote and this one did not, and list what there is."""
        stale = [
            name for name in sorted(self._known - self._written) if (self.folder / name).is_file()
        ]
        for name in stale:
            (self.folder / name).unlink()
        if stale:
            logger.info(
                "%s: removed %d file(s) of an earlier run that this one does not write, for instance %s",
                self.folder, len(stale), stale[0],
            )  # fmt: skip
        self._write(self._written)

    def _read(self) -> set[str]:
        try:
            names = json.loads(self._list.read_text(encoding="utf-8"))["files"]
            return {str(name) for name in names}
        except FileNotFoundError:
            return set()
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self._list}: not the list of files that {self._command} writes ({error!r}). Remove it"
                " together with the results, or give another `--out`."
            ) from error

    def _write(self, names: Iterable[str]) -> None:
        text = json.dumps({"command": self._command, "files": sorted(names)}, indent=1)
        with atomic_path(self._list) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
