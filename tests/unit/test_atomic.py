import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workflow_scripts.storage.atomic import atomic_folder, atomic_path, hidden_beside


def test_file_appears_with_its_content_and_ordinary_permissions(tmp_path: Path) -> None:
    final = tmp_path / "new folder" / "täble.csv"
    with atomic_path(final) as temporary:
        assert temporary.name == final.name
        temporary.write_text("a")
        temporary.with_name(".of the writer").write_text("")
        assert not final.exists()
    (tmp_path / "other").write_text("")
    assert final.read_text() == "a"
    assert final.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert list(final.parent.iterdir()) == [final]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_leaves_nothing_and_keeps_the_old_file(
    tmp_path: Path, error: type[BaseException]
) -> None:
    final = tmp_path / "x"
    final.write_text("old")
    with pytest.raises(error), atomic_path(final) as temporary:
        temporary.write_text("half")
        raise error
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_a_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        pass


def test_killed_process_leaves_no_final_file(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from workflow_scripts.storage.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    final = tmp_path / "x"
    done = subprocess.run([sys.executable, "-c", program, str(final)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not final.exists()


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "a" * 240 + ".safetensors"])
def test_names_as_long_as_the_file_system_takes(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert (tmp_path / name).read_text() == "whole"
    (tmp_path / name).unlink()
    with atomic_folder(tmp_path / name) as folder:
        (folder / "file").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_hidden_names_of_long_names_differ(tmp_path):
    first, second = (hidden_beside(tmp_path / ("ü" * 126 + end), ".partial") for end in "ab")
    assert first != second
    assert len(first.name.encode()) < 255
    assert hidden_beside(tmp_path / "model", ".resume") == tmp_path / ".model.resume"
