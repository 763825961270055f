"""Libraries of packages, made lighter: what is loaded stays, and where; programs for GPUs go if they may."""

import ctypes
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.torch_base import SCRIPT

FOR_GPUS = "libtorch_cuda_linalg.so"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lighter", SCRIPT.with_name("lighter.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def libraries() -> Path:
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "lib"


def loaded(script: ModuleType, data: bytes) -> dict[int, bytes]:
    """What lies at each page's address once the library is loaded, but for its head."""
    pages = {}
    for segment in script.read_segments(data):
        if segment.kind == script.LOADED:
            for at in range(0, segment.stored, script.PAGE):
                end = min(at + script.PAGE, segment.stored)
                pages[segment.address + at] = data[segment.offset + at : segment.offset + end]
    del pages[0]
    return pages


@pytest.mark.parametrize("name", ["libc10.so", FOR_GPUS])
def test_what_is_loaded_stays_where_it_was(script: ModuleType, libraries: Path, name: str) -> None:
    whole = (libraries / name).read_bytes()
    light = script.lightened(whole, gpus=True)
    assert len(light) < 0.9 * len(whole)
    assert loaded(script, light) == loaded(script, whole)
    assert script.lightened(light, gpus=True) is None


def test_programs_for_gpus_are_all_that_is_loaded_no_more(script: ModuleType, libraries: Path) -> None:
    whole = (libraries / FOR_GPUS).read_bytes()
    [programs] = [each for each in script.read_sections(whole) if each.name == script.FOR_GPUS]
    [home] = [
        each
        for each in script.read_segments(whole)
        if each.kind == script.LOADED and 0 <= programs.offset - each.offset < each.stored
    ]
    first = home.address + programs.offset - home.offset
    before = loaded(script, whole)
    after = loaded(script, script.lightened(whole, gpus=False))
    gone = {address for address in before if after.get(address) != before[address]}
    assert all(first <= address < first + programs.size for address in gone)
    assert len(gone) >= programs.size // script.PAGE - 1


def test_a_light_library_loads_and_computes(script: ModuleType, libraries: Path, tmp_path: Path) -> None:
    path = tmp_path / "lighter-libgomp.so"
    path.write_bytes(script.lightened((libraries / "libgomp.so.1").read_bytes(), gpus=False))
    library = ctypes.CDLL(str(path))
    library.omp_set_num_threads(3)
    assert library.omp_get_max_threads() == 3


def test_all_libraries_of_packages_are_made_lighter_once(
    script: ModuleType, libraries: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "torch/lib"
    folder.mkdir(parents=True)
    for name in ("libc10.so", FOR_GPUS):
        (folder / name).write_bytes((libraries / name).read_bytes())
        (folder / name).chmod(0o755)
    cublas = tmp_path / "nvidia/cublas/lib/libcublas.so.12"
    cublas.parent.mkdir(parents=True)
    cublas.write_bytes((libraries / "libc10.so").read_bytes())
    script.main(tmp_path)
    with_programs = (folder / FOR_GPUS).stat().st_size
    assert with_programs < (libraries / FOR_GPUS).stat().st_size
    assert cublas.read_bytes() == (libraries / "libc10.so").read_bytes(), "NVIDIA's own are left alone"
    shutil.rmtree(tmp_path / "nvidia")
    (folder / FOR_GPUS).write_bytes((libraries / FOR_GPUS).read_bytes())
    script.main(tmp_path)
    without = (folder / FOR_GPUS).stat()
    assert without.st_size < with_programs
    assert without.st_mode & 0o777 == 0o755
    script.main(tmp_path)
    assert (folder / FOR_GPUS).stat() == without, "left as it is"
    assert capsys.readouterr().out.count("2 libraries: ") == 3


def test_what_is_no_library_is_left_and_told(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = tmp_path / "pack/libpack.so.1"
    strange.parent.mkdir()
    strange.write_bytes(text := b"version https://git-lfs.github.com/spec/v1\n" * 4)
    (tmp_path / "pack/data.so-called").write_bytes(text)
    (tmp_path / "pack/broken.so").write_bytes(b"\x7fELF\x02\x01")
    script.main(tmp_path)
    assert strange.read_bytes() == text
    told = capsys.readouterr().out
    assert "2 libraries: 0 MB are 0 MB now; 2 stay as they are pack/broken.so pack/libpack.so.1" in told
