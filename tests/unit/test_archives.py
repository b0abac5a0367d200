import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loopback import Loopback
from workflow_scripts.datasets.archives import Limits, extract, obtain
from workflow_scripts.datasets.download import ArchiveSettings, DownloadSettings
from workflow_scripts.errors import InputError

FILES = {"top/a.txt": b"a", "top/sub/b ü.txt": b"b" * 5000, "other/c.txt": b"c"}


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    return path


def add_member(path: Path, **attributes: object) -> Path:
    """A tar with one harmless file and a member of the given attributes."""
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("good.txt")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"good"))
        bad = tarfile.TarInfo("bad")
        for name, value in attributes.items():
            setattr(bad, name, value)
        tar.addfile(bad, io.BytesIO(b""))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(archive: Path, match: str, **options: object) -> None:
    """Extraction fails with the message and leaves nothing, inside or outside the target."""
    place = archive.parent / "place"
    place.mkdir()
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(InputError, match=match) as caught:
        extract(archive, place / "target", **options)  # type: ignore[arg-type]
    assert str(archive) in str(caught.value)
    assert sorted(archive.parent.rglob("*")) == before


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_extracts_tar(tmp_path: Path, mode: str):
    extract(make_tar(tmp_path / "a", FILES, mode), tmp_path / "out" / "target")
    assert content(tmp_path / "out" / "target") == FILES
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["target"]


def test_extracts_zip(tmp_path: Path):
    extract(make_zip(tmp_path / "a.zip", FILES), tmp_path / "target")
    assert content(tmp_path / "target") == FILES


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_extracts_what_is_wanted(tmp_path: Path, make: Callable[..., Path]):
    seen: list[int] = []
    extract(
        make(tmp_path / "a", FILES),
        tmp_path / "target",
        ["top/sub"],
        progress=lambda _task, done, _total, _unit: seen.append(done),
    )
    assert list(content(tmp_path / "target")) == ["top/sub/b ü.txt"]
    assert seen == [1, 2, 3]


def test_permissions_are_not_taken_over(tmp_path: Path):
    extract(add_member(tmp_path / "a.tar", mode=0o6777), tmp_path / "target")
    assert (tmp_path / "target" / "bad").stat().st_mode & 0o7111 == 0


def test_existing_target_is_left_alone(tmp_path: Path):
    (tmp_path / "target").mkdir()
    with pytest.raises(FileExistsError):
        extract(make_tar(tmp_path / "a.tar", FILES), tmp_path / "target")


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize(
    "name", ["../evil.txt", "top/../../evil.txt", "/tmp/evil.txt", "top/..", "..\\evil.txt"]
)
def test_paths_out_of_the_target(tmp_path: Path, make: Callable[..., Path], name: str):
    refused(make(tmp_path / "a", {"good.txt": b"good", name: b"evil"}), "leads out of")


def test_members_that_are_not_wanted_are_checked_too(tmp_path: Path):
    refused(
        make_tar(tmp_path / "a", {"good.txt": b"good", "../evil.txt": b""}),
        "leads out of",
        wanted=["good.txt"],
    )


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("destination", ["/etc/passwd", "../../x", "good.txt"])
def test_links(tmp_path: Path, kind: bytes, destination: str):
    refused(add_member(tmp_path / "a.tar", type=kind, linkname=destination), "'bad': it is a link")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices(tmp_path: Path, kind: bytes):
    refused(add_member(tmp_path / "a.tar", type=kind), "'bad': it is a device file")


@pytest.mark.parametrize(("mode", "kind"), [(0o120777, "link"), (0o020666, "device file")])
def test_links_and_devices_in_zip(tmp_path: Path, mode: int, kind: str):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        info = zipfile.ZipInfo("bad")
        info.create_system = 3
        info.external_attr = mode << 16
        zipped.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", f"it is a {kind}")


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_bomb_by_ratio(tmp_path: Path, make: Callable[..., Path]):
    limits = Limits(ratio=50, ratio_from=1 << 16)
    refused(make(tmp_path / "a", {"zero": bytes(4 << 20)}), "unpacks to more", limits=limits)


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_bomb_by_size(tmp_path: Path, make: Callable[..., Path]):
    files = {str(i): bytes(1000) for i in range(10)}
    refused(make(tmp_path / "a", files), "unpacks to more than 9000", limits=Limits(size=9000))


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_bomb_by_count(tmp_path: Path, make: Callable[..., Path]):
    files = {str(i): b"" for i in range(10)}
    refused(make(tmp_path / "a", files), "more than 9 members", limits=Limits(members=9))


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_truncated_archive(tmp_path: Path, make: Callable[..., Path]):
    archive = make(tmp_path / "a", {"a": hashlib.shake_256(b"").digest(100_000)})
    archive.write_bytes(archive.read_bytes()[:60_000])
    refused(archive, "damaged")


def test_no_archive_at_all(tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(b"<html>Please log in</html>" * 100)
    refused(tmp_path / "a.tar", "not a tar or zip archive")


class TestObtain:
    """Address → extracted folder."""

    def settings(self, tmp_path: Path, **values: object) -> DownloadSettings:
        return DownloadSettings(folder=str(tmp_path / "data"), pause=0, **values)  # type: ignore[arg-type]

    def archive(self, address: str, data: bytes) -> ArchiveSettings:
        return ArchiveSettings(address=address, checksum=f"md5:{hashlib.md5(data).hexdigest()}")

    def test_fetches_once(self, tmp_path: Path):
        data = make_tar(tmp_path / "a.tar", FILES).read_bytes()
        with Loopback({"set/a.tar": data}) as server:
            archive = self.archive(server.address("set/a.tar"), data)
            folder = obtain(archive, self.settings(tmp_path))
            assert content(folder) == FILES
            assert obtain(archive, self.settings(tmp_path)) == folder
            assert len(server.requests) == 1

    def test_archive_that_is_there_is_verified_and_not_fetched(self, tmp_path: Path):
        data = make_tar(tmp_path / "a.tar", FILES).read_bytes()
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.tar").write_bytes(data)
        archive = self.archive("http://127.0.0.1:9/a.tar", data)
        assert content(obtain(archive, self.settings(tmp_path))) == FILES
        with pytest.raises(InputError, match="wrong checksum"):
            obtain(
                archive.model_copy(update={"checksum": "md5:" + "0" * 32}),
                self.settings(tmp_path),
            )

    def test_local_archive_stays(self, tmp_path: Path):
        path = make_zip(tmp_path / "mine.zip", FILES)
        archive = self.archive(str(path), path.read_bytes())
        folder = obtain(archive, self.settings(tmp_path, keep_archives=False))
        assert content(folder) == FILES
        assert path.exists()

    def test_archives_can_be_dropped(self, tmp_path: Path):
        data = make_tar(tmp_path / "a.tar", FILES).read_bytes()
        with Loopback({"a.tar": data}) as server:
            archive = self.archive(server.address("a.tar"), data)
            obtain(archive, self.settings(tmp_path, keep_archives=False))
        assert not (tmp_path / "data" / "a.tar").exists()

    def test_other_version_gets_other_folder(self, tmp_path: Path):
        path = make_tar(tmp_path / "a.tar", FILES)
        archive = ArchiveSettings(address=str(path), checksum="")
        first = obtain(archive, self.settings(tmp_path))
        make_tar(path, {"new.txt": b"new"})
        assert content(obtain(archive, self.settings(tmp_path))) == {"new.txt": b"new"}
        assert content(first) == FILES

    def test_missing_local_archive(self, tmp_path: Path):
        archive = ArchiveSettings(address="nowhere/a.tar", checksum="")
        with pytest.raises(InputError, match=r"nowhere/a\.tar: no such archive"):
            obtain(archive, self.settings(tmp_path))
