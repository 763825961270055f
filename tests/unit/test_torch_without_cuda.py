"""The stand-ins for CUDA's libraries: the system's linker takes them for the real ones."""

import ctypes
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.torch_base import SCRIPT


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("torch_without_cuda", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_who_needs_a_symbol_of_a_library_that_is_missing_finds_it_there(script: ModuleType) -> None:
    torch = script.Object(
        needed=frozenset({"libcublas.so.13", "libc.so.6"}),
        versions=frozenset({("libcublas.so.13", "libcublas.so.13"), ("libc.so.6", "GLIBC_2.17")}),
        wanted=frozenset(
            {
                ("cublasCreate_v2", "libcublas.so.13", "libcublas.so.13"),
                ("malloc", "libc.so.6", "GLIBC_2.17"),
                ("cublasOld", "", ""),
                ("cublasOwn", "", ""),
                ("PyList_New", "", ""),
            }
        ),
        defined=frozenset({"cublasOwn"}),
    )
    made = script.plan([torch], frozenset({"libcublas.so.13"}))
    assert set(made) == {"libcublas.so.13"}
    assert made["libcublas.so.13"].versions == {"libcublas.so.13"}
    assert made["libcublas.so.13"].symbols == {("cublasCreate_v2", "libcublas.so.13"), ("cublasOld", "")}


def test_a_stand_in_loads_and_answers_that_there_is_no_device(script: ModuleType, tmp_path: Path) -> None:
    symbols = {
        *((f"cuda{number}", "v13") for number in range(300)),
        ("cudaMalloc", "v13"),
        ("cudaFree", "v12"),
        ("cudaGetErrorString", "v13"),
        ("__cudaRegisterFatBinary", "v13"),
        ("cuInit", ""),
    }
    path = tmp_path / "libcudart.so.13"
    path.write_bytes(script.library(path.name, script.StandIn({"v11"}, symbols)))
    library = ctypes.CDLL(str(path))
    assert (library.cudaMalloc(), library.cuda299(), library.cuInit()) == (100, 100, 100)
    assert library.__getattr__("__cudaRegisterFatBinary")() == 0
    library.cudaGetErrorString.restype = ctypes.c_char_p
    assert library.cudaGetErrorString() == b"CUDA is not in this image"
    find = ctypes.CDLL(None).dlvsym
    find.restype, find.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
    assert find(library._handle, b"cudaFree", b"v12")
    assert not find(library._handle, b"cudaFree", b"v13")
    assert script.read_object(path) is None, "it is made anew with the next torch"


def test_what_is_no_library_is_refused(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "libc10.so").write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 4)
    with pytest.raises(ValueError, match=r"libc10\.so' is no library for x86-64"):
        script.read_object(tmp_path / "libc10.so")
