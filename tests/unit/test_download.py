import errno
import hashlib
import shutil
from pathlib import Path

import pytest

from tests.loopback import Loopback
from workflow_scripts.datasets import download
from workflow_scripts.datasets.download import DownloadSettings, fetch
from workflow_scripts.errors import InputError

DATA = hashlib.shake_256(b"archive").digest(1_000_000)
MD5 = f"md5:{hashlib.md5(DATA).hexdigest()}"
QUICK = DownloadSettings(attempts=3, timeout=5, pause=0)


@pytest.fixture
def server():
    with Loopback({"a.tar": DATA}) as loopback:
        yield loopback


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "a.tar"


def left_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_fetches_and_reports_progress(server: Loopback, target: Path):
    seen: list[tuple[str, int, int | None, str]] = []
    fetch(server.address("a.tar"), target, MD5, QUICK, lambda *step: seen.append(step))
    assert target.read_bytes() == DATA
    assert left_beside(target) == []
    assert seen[-1] == ("fetch a.tar", len(DATA), len(DATA), "B")
    assert [step[1] for step in seen] == sorted(step[1] for step in seen)


@pytest.mark.parametrize("checksum", ["", f"sha256:{hashlib.sha256(DATA).hexdigest()}"])
def test_other_checksums(server: Loopback, target: Path, checksum: str):
    fetch(server.address("a.tar"), target, checksum, QUICK)
    assert target.read_bytes() == DATA


def test_goes_on_after_a_cut_at_60_percent(server: Loopback, target: Path):
    server.cut_at = [600_000]
    fetch(server.address("a.tar"), target, MD5, QUICK)
    assert target.read_bytes() == DATA
    assert server.requests == [("a.tar", ""), ("a.tar", "bytes=600000-")]


def test_goes_on_in_a_later_call(server: Loopback, target: Path):
    server.cut_at = [600_000] * 3
    with pytest.raises(InputError, match=r"closed after 600000 of 1000000 bytes"):
        fetch(server.address("a.tar"), target, MD5, DownloadSettings(attempts=1, pause=0))
    assert not target.exists()
    server.cut_at.clear()
    fetch(server.address("a.tar"), target, MD5, QUICK)
    assert target.read_bytes() == DATA
    assert server.requests[-1] == ("a.tar", "bytes=600000-")


def test_attempts_count_from_the_last_new_byte(server: Loopback, target: Path):
    server.cut_at = list(range(100_000, 1_000_000, 100_000))
    fetch(server.address("a.tar"), target, MD5, DownloadSettings(attempts=1, pause=0))
    assert target.read_bytes() == DATA


def test_server_without_ranges_starts_anew(server: Loopback, target: Path):
    server.ranges = False
    server.cut_at = [600_000]
    fetch(server.address("a.tar"), target, MD5, QUICK)
    assert target.read_bytes() == DATA


def test_always_truncated(server: Loopback, target: Path):
    server.ranges = False
    server.cut_at = [600_000] * 50
    with pytest.raises(InputError) as caught:
        fetch(server.address("a.tar"), target, MD5, QUICK)
    assert server.address("a.tar") in str(caught.value)
    assert str(target) in str(caught.value)
    assert not target.exists()
    assert len(server.requests) == 4


def test_file_that_changed_meanwhile_starts_anew(server: Loopback, target: Path):
    server.cut_at = [600_000, 600_000]
    with pytest.raises(InputError):
        fetch(server.address("a.tar"), target, MD5, DownloadSettings(attempts=1, pause=0))
    new = DATA[::-1]
    server.files["a.tar"] = new
    fetch(server.address("a.tar"), target, f"md5:{hashlib.md5(new).hexdigest()}", QUICK)
    assert target.read_bytes() == new


def test_complete_but_unverified_partial_is_used(server: Loopback, target: Path):
    server.cut_at = [600_000, 600_000]
    with pytest.raises(InputError):
        fetch(server.address("a.tar"), target, MD5, DownloadSettings(attempts=1, pause=0))
    (target.parent / ".a.tar.part").write_bytes(DATA)
    fetch(server.address("a.tar"), target, MD5, QUICK)
    assert target.read_bytes() == DATA
    assert server.requests[-1] == ("a.tar", "bytes=1000000-")


def test_partial_of_another_address_is_not_used(server: Loopback, target: Path):
    server.files["b.tar"] = DATA[::-1]
    server.cut_at = [600_000, 600_000]
    with pytest.raises(InputError):
        fetch(server.address("b.tar"), target, "", DownloadSettings(attempts=1, pause=0))
    fetch(server.address("a.tar"), target, "", QUICK)
    assert target.read_bytes() == DATA


def test_corrupted_once_is_fetched_anew(server: Loopback, target: Path):
    server.corrupt = {"a.tar": 1}
    fetch(server.address("a.tar"), target, MD5, QUICK)
    assert target.read_bytes() == DATA


def test_wrong_checksum_names_everything(server: Loopback, target: Path):
    wrong = "md5:" + "0" * 32
    with pytest.raises(InputError) as caught:
        fetch(server.address("a.tar"), target, wrong, QUICK)
    message = str(caught.value)
    for part in (server.address("a.tar"), str(target), wrong, MD5):
        assert part in message
    assert list(target.parent.iterdir()) == []


def test_temporary_failures_are_retried(server: Loopback, target: Path):
    server.failures = [503, 500]
    fetch(server.address("a.tar"), target, MD5, QUICK)
    assert target.read_bytes() == DATA


def test_missing_file_is_not_retried(server: Loopback, target: Path):
    with pytest.raises(InputError, match="HTTP 404"):
        fetch(server.address("missing.tar"), target, MD5, QUICK)
    assert len(server.requests) == 1
    assert not target.exists()


def test_nobody_listens(target: Path):
    with Loopback({}) as gone:
        address = gone.address("a.tar")
    with pytest.raises(InputError, match="no connection"):
        fetch(address, target, MD5, QUICK)


def test_pauses_double(server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.failures = [503] * 4
    fetch(server.address("a.tar"), target, MD5, DownloadSettings(attempts=5, pause=1))
    assert pauses == [1, 2, 4, 8]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/a", "a.tar", ""])
def test_other_schemes_are_refused(address: str, target: Path):
    with pytest.raises(InputError, match="not an address"):
        fetch(address, target, MD5, QUICK)


def test_too_little_space_is_told_before(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = shutil._ntuple_diskusage(10, 10, 1000)  # type: ignore[attr-defined]
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"1000 bytes are free, 1000000 are needed"):
        fetch(server.address("a.tar"), target, MD5, QUICK)


def test_disk_full_keeps_what_arrived(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_receive", full)
    with pytest.raises(InputError, match="disk is full"):
        fetch(server.address("a.tar"), target, MD5, QUICK)
    assert not target.exists()
