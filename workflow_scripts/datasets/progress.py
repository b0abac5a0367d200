"""How the preparation of a dataset tells how far it is, without knowing who listens."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None, str], None]
"""Called with a task, how much of it is done, how much it is in all (None: unknown), and the unit:
"B" for bytes, "file" or "img"."""
