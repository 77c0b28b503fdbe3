"""The one file format: an uncompressed zip of `.npy` arrays and one versioned `index.json`.  Nothing is ever pickled."""

import io
import json
import math
import os
import tempfile
import tokenize
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ._errors import FileFormatError

VERSION = 1
INDEX = "index.json"
KINDS = "biuf"


def write(path: str | os.PathLike[str], index: Mapping[str, Any], arrays: Iterable[tuple[str, NDArray[Any]]]) -> Path:
    """Write a file, whole or not at all: it is written beside its place and moved there at the end.

    Arrays come by name, one after the other, and need not be in memory together.
    **Raises:** `FileFormatError` for arrays of anything but numbers.
    """
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(INDEX, json.dumps({"layerscope_file": VERSION, **index}, indent=1))
            for name, array in arrays:
                if array.dtype.kind not in KINDS:
                    raise FileFormatError(
                        f"save: {name} holds {array.dtype} values. Only numbers are written, never objects."
                    )
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    npy.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
        mask = os.umask(0)  # the mode any new file would have; temporary ones are for their owner alone
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The index and the arrays of a file.

    **Raises:** `FileFormatError` for a file that is damaged, foreign, of a newer version, or whose sizes do not fit its contents; nothing
    is allocated before the size is checked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if INDEX not in archive.namelist():
                raise FileFormatError(
                    f"{path}: no {INDEX} inside, so this is no layerscope file. Load files written by results.save()."
                )
            loaded = json.loads(archive.read(INDEX))
            index = cast(dict[str, Any], loaded) if isinstance(loaded, dict) else {}  # keys of JSON are strings
            seen = index.get("layerscope_file")
            if seen != VERSION:
                raise FileFormatError(
                    f"{path}: format version {seen!r}, this layerscope reads version {VERSION}. Load it with the version that wrote it."
                )
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return index, {name.removesuffix(".npy"): _array(archive, name) for name in names}
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError, EOFError) as error:
        raise FileFormatError(
            f"{path}: damaged or no layerscope file ({error}). Write it again with results.save()."
        ) from error


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    info = archive.getinfo(name)
    with archive.open(info) as entry:
        head = io.BytesIO(entry.read(min(info.file_size, 1 << 16)))
    try:
        version = npy.read_magic(head)
        shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(head)
    except (ValueError, SyntaxError, TypeError, tokenize.TokenError) as error:  # whatever a mangled header sets off
        raise FileFormatError(f"{archive.filename}: {name} is no array of numbers ({error}).") from error
    wanted = head.tell() + math.prod(shape) * dtype.itemsize
    if dtype.kind not in KINDS or fortran or wanted != info.file_size or info.compress_type != zipfile.ZIP_STORED:
        raise FileFormatError(
            f"{archive.filename}: {name} claims {dtype} {shape}, {wanted:,} bytes, and holds {info.file_size:,}. The file is damaged."
        )
    with archive.open(info) as entry:
        return npy.read_array(entry, allow_pickle=False)
