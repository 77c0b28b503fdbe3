"""Files are whole or not there, never pickled, and a damaged or foreign one is refused before anything is allocated."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from layerscope import _files
from layerscope._errors import FileFormatError

ARRAYS = {"a.b": np.arange(6).reshape(2, 3), "empty": np.empty((0, 4)), "flags": np.array([True, False])}


def test_a_file_gives_back_what_it_was_given(tmp_path: Path) -> None:
    path = _files.write(tmp_path / "x.lscope", {"answer": 42}, ARRAYS.items())
    index, arrays = _files.read(path)
    assert index["answer"] == 42
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert [p.name for p in tmp_path.iterdir()] == ["x.lscope"]


def test_a_file_has_the_mode_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    path = _files.write(tmp_path / "x.lscope", {}, ())
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_objects_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="Only numbers"):
        _files.write(tmp_path / "x", {}, [("o", np.array([object()]))])
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = _files.write(tmp_path / "x", {"n": 1}, ())
    with pytest.raises(TypeError):
        _files.write(path, {"n": object()}, ())
    assert _files.read(path)[0]["n"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def _zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


INDEX = json.dumps({"layerscope_file": 1}).encode()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"other.txt": b"x"}, "no index.json"),
        ({"index.json": b"{"}, "damaged"),
        ({"index.json": b"[]"}, "format version"),
        ({"index.json": b'{"layerscope_file": 2}'}, "format version 2"),
        ({"index.json": INDEX, "a.npy": b"not an array"}, "no array"),
        ({"index.json": INDEX, "a.npy": _npy(np.arange(3))[:-1]}, "damaged"),
        ({"index.json": INDEX, "a.npy": _npy(np.array([{"p": 1}], object))}, "claims"),
        ({"index.json": INDEX, "a.npy": _npy(np.asfortranarray(np.ones((2, 2))))}, "claims"),
    ],
)
def test_foreign_and_damaged_files_are_refused(tmp_path: Path, entries: dict[str, bytes], words: str) -> None:
    with pytest.raises(FileFormatError, match=words):
        _files.read(_zip(tmp_path / "x", entries))


def test_a_header_that_claims_terabytes_allocates_nothing(tmp_path: Path) -> None:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    mangled = _npy(np.zeros(10)).replace(b"(10,), }", b"(10, }  ")
    for content, words in ((stream.getvalue() + b"12345678", "claims"), (mangled, "no array")):
        with pytest.raises(FileFormatError, match=words):
            _files.read(_zip(tmp_path / "x", {"index.json": INDEX, "a.npy": content}))


def test_a_compressed_bomb_is_refused(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x", {"index.json": INDEX, "a.npy": _npy(np.zeros(10**6))}, zipfile.ZIP_DEFLATED)
    with pytest.raises(FileFormatError, match="damaged"):
        _files.read(path)


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello")
    with pytest.raises(FileFormatError, match="no layerscope file"):
        _files.read(tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        _files.read(tmp_path / "y")
