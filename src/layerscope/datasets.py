"""Real images without a network: the small digits that come with scikit-learn, and MNIST and CIFAR-10 from files the user has."""

import gzip
import hashlib
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ._errors import DataError

_Split = Literal["train", "test", "all"]
_Images = tuple[NDArray[np.float32], NDArray[np.int64]]

_HELD_OUT = 500  # images of the 1,797 digits, about: every class is split alike
_SIDE, _IMAGE_MAGIC, _LABEL_MAGIC = 28, 0x803, 0x801
_PREFIX = {"train": "train", "test": "t10k"}
_NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
_MNIST, _CIFAR10 = (_SIDE, _SIDE), (32, 32, 3)
_BATCHES = {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)}
_RECORD = 1 + 3 * 32 * 32  # label, then the red, the green and the blue plane


def digits(size: int = 28, *, split: _Split = "test", seed: int = 0, normalize: bool = True) -> _Images:
    """Real handwritten digits that come with scikit-learn: 1,797 images of 8 × 8 pixels in 17 shades, enlarged to `size`.

    Gives images (N, 1, size, size) float32 and labels (N,) int64, in the order of the set.

    **Arguments:** `size` pixels per side; enlarging is bilinear between pixel centres, the edges repeated (as
    `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`). `split` "test" (about 500 images, held out class by class
    by a hash of `seed` and their number, so the same everywhere), "train" the others, "all". `normalize` 0 … 1, else 0 … 16 as recorded.
    **Raises:** `ImportError` without scikit-learn; `DataError` for an unknown split or a size below 1.
    **Beware:** this is not MNIST: 8 × 8 pixels hold less detail, and writers are shared between the splits.
    **Source:** Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI (the 1,797 of its test part).
    """
    if split not in ("train", "test", "all"):
        raise DataError(f"digits: split={split!r} is none of 'train', 'test', 'all'.")
    if size < 1:
        raise DataError(f"digits: size={size} holds no pixel. Give 8 (as recorded), 28 (as MNIST) or any other side.")
    try:
        from sklearn.datasets import load_digits  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
    except ImportError as error:
        raise ImportError(
            "digits: the images come with scikit-learn, which is not installed: pip install scikit-learn"
        ) from error
    loaded = cast(Any, load_digits())
    pixels: NDArray[np.float64] = loaded.images
    labels: NDArray[np.int64] = loaded.target.astype(np.int64)
    if split != "all":
        chosen = _held_out(labels, seed) == (split == "test")
        pixels, labels = pixels[chosen], labels[chosen]
    weights = _bilinear(pixels.shape[1], size)
    enlarged = weights @ (pixels / 16 if normalize else pixels) @ weights.T
    return enlarged.astype(np.float32)[:, None], labels


def _held_out(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Which images are for testing: of each class the same share, those whose hash is smallest."""
    rank = np.array([_hash(seed, number) for number in range(len(labels))], dtype=np.uint64)
    held = np.zeros(len(labels), dtype=np.bool_)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        held[members[np.argsort(rank[members])[: round(len(members) * _HELD_OUT / len(labels))]]] = True
    return held


def _hash(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=8).digest(), "little")


def _bilinear(old: int, new: int) -> NDArray[np.float64]:
    """Weights (new, old): pixel i lies at (i + ½) old / new - ½, between its two neighbours; beyond the edge is the edge."""
    at = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(old)))


def mnist(path: str | Path, *, split: _Split = "test", normalize: bool = True) -> _Images:
    """MNIST from files on this machine: nothing is downloaded, and nothing else is given in its place.

    Gives images (N, 1, 28, 28) float32, 0 … 1 or with `normalize=False` 0 … 255, and labels (N,) int64.

    **Arguments:** `path` a folder with the four IDX files (`train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, …; also ending in `.gz`,
    also in `MNIST/raw` or `raw` below it), or an `.npz` with `x_train`, `y_train`, `x_test`, `y_test`. `split` "train", "test" or "all".
    **Raises:** `FileNotFoundError` with the names looked for; `DataError` for files that are no MNIST: magic numbers, sizes and shapes
    are checked before anything is allocated.
    **Source:** LeCun, Cortes & Burges 1998, The MNIST database of handwritten digits.
    """
    path, parts = _asked("mnist", path, split, f"{_PREFIX['train']}-images-idx3-ubyte(.gz) and its three companions")
    pairs = [_read_idx(path, part) if path.is_dir() else _read_npz("mnist", path, part, _MNIST) for part in parts]
    return _given([(images[:, None], labels) for images, labels in pairs], normalize)


def cifar10(path: str | Path, *, split: _Split = "test", normalize: bool = True) -> _Images:
    """CIFAR-10 from files on this machine: nothing is downloaded.

    Gives images (N, 3, 32, 32) float32, 0 … 1 or with `normalize=False` 0 … 255, and labels (N,) int64.

    **Arguments:** `path` a folder with the binary version (`data_batch_1.bin` … `data_batch_5.bin`, `test_batch.bin`; also in
    `cifar-10-batches-bin` below it), or an `.npz` with `x_train` (N, 32, 32, 3), `y_train`, `x_test`, `y_test`. `split` as of `mnist`.
    **Raises:** `FileNotFoundError` with the names looked for; `DataError` for files that are no CIFAR-10, and for its Python version,
    which is pickled: loading it would run whatever its author wrote.
    **Source:** Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    path, parts = _asked("cifar10", path, split, "data_batch_1.bin … data_batch_5.bin and test_batch.bin")
    if path.is_dir():
        return _given([_read_batch(path, name) for part in parts for name in _BATCHES[part]], normalize)
    pairs = [_read_npz("cifar10", path, part, _CIFAR10) for part in parts]
    return _given([(np.moveaxis(images, -1, 1), labels) for images, labels in pairs], normalize)


def _asked(who: str, path: str | Path, split: str, companions: str) -> tuple[Path, tuple[str, ...]]:
    """Where the files are, and the parts to be read."""
    if split not in ("train", "test", "all"):
        raise DataError(f"{who}: split={split!r} is none of 'train', 'test', 'all'.")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{who}: there is no {path}. Give a folder with {companions}, "
            "or an .npz with x_train, y_train, x_test, y_test; layerscope.datasets.digits() needs no files."
        )
    return path, ("train", "test") if split == "all" else (split,)


def _given(pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], normalize: bool) -> _Images:
    images = np.concatenate([images for images, _ in pairs]).astype(np.float32)
    labels = np.concatenate([labels for _, labels in pairs]).astype(np.int64)
    if normalize:
        images /= 255
    return images, labels


def _read_batch(folder: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A file of records: one byte of label, then 3,072 of pixels, plane by plane."""
    found = next((p for below in ("", "cifar-10-batches-bin") if (p := folder / below / name).is_file()), None)
    if found is None:
        pickled = next((p for p in folder.rglob("data_batch_1") if p.is_file()), None)
        hint = (
            f" {pickled.parent.name} is the Python version, which is pickled: loading it would run whatever its author wrote. Fetch the "
            "binary version, or let Keras read it and keep the arrays: np.savez('cifar10.npz', x_train=…, y_train=…, x_test=…, y_test=…)."
            if pickled
            else ""
        )
        raise FileNotFoundError(f"cifar10: neither {folder} nor its folder cifar-10-batches-bin holds {name}.{hint}")
    size = found.stat().st_size
    if not size or size % _RECORD:
        raise DataError(
            f"cifar10: {name} holds {size:,} bytes, which is no whole number of records of {_RECORD:,}. The file is damaged or no binary "
            "batch of CIFAR-10: fetch it again."
        )
    records = np.fromfile(found, dtype=np.uint8).reshape(-1, _RECORD)
    return _checked("cifar10", records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0], name, name)


def _read_idx(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images_at, labels_at = (_find(folder, f"{_PREFIX[part]}-{kind}") for kind in ("images-idx3", "labels-idx1"))
    images = _idx(images_at, _IMAGE_MAGIC, (_SIDE, _SIDE))
    labels = _idx(labels_at, _LABEL_MAGIC, ())
    return _checked("mnist", images, labels, images_at.name, labels_at.name)


def _find(folder: Path, stem: str) -> Path:
    kind, dimensions = stem.rsplit("-", 1)
    names = [f"{name}-ubyte{end}" for name in (stem, f"{kind}.{dimensions}") for end in ("", ".gz")]
    for below in ("", "MNIST/raw", "raw"):
        for name in names:
            if (found := folder / below / name).is_file():
                return found
    raise FileNotFoundError(f"mnist: {folder} holds none of {', '.join(names)}, nor do its folders MNIST/raw and raw.")


def _idx(path: Path, magic: int, sides: tuple[int, ...]) -> NDArray[np.uint8]:
    """An IDX file of bytes: big-endian magic number, count and sides, then the values."""
    header = 4 * (2 + len(sides))
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as opened:
            file = cast(BinaryIO, opened)
            start = file.read(header)
            numbers = np.frombuffer(start[: len(start) // 4 * 4], dtype=">u4").tolist()
            if len(numbers) != 2 + len(sides) or numbers[0] != magic or tuple(numbers[2:]) != sides:
                raise DataError(
                    f"mnist: {path.name} starts with {numbers}, not with {[magic, 'count', *sides]}: it is no such file of MNIST."
                )
            expected = numbers[1] * int(np.prod(sides, dtype=np.int64))
            size = _unpacked_size(path) if packed else path.stat().st_size
            if size != header + expected:
                raise DataError(
                    f"mnist: {path.name} should hold {header + expected:,} bytes for {numbers[1]:,} entries, but holds {size:,}. "
                    "The file is damaged or cut short: fetch it again."
                )
            values = np.frombuffer(file.read(expected), dtype=np.uint8)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"mnist: {path.name} is no whole gzip file ({error}). Fetch it again.") from error
    if len(values) != expected:
        raise DataError(f"mnist: {path.name} ends after {len(values):,} of {expected:,} values. Fetch it again.")
    return values.reshape(numbers[1], *sides)


def _unpacked_size(path: Path) -> int:
    """What a gzip file says of its contents in its last four bytes."""
    with path.open("rb") as file:
        file.seek(-4, 2)
        return int.from_bytes(file.read(4), "little")


def _read_npz(who: str, path: Path, part: str, sides: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    names = (f"x_{part}", f"y_{part}")
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in names if f"{name}.npy" not in archive.namelist()]
            if missing:
                raise DataError(
                    f"{who}: {path.name} has no {' and no '.join(missing)}; it has {', '.join(archive.namelist()) or 'nothing'}. "
                    "Give an .npz with x_train, y_train, x_test, y_test."
                )
            images, labels = (
                _npy(who, archive, name, of, path.name) for name, of in zip(names, (sides, ()), strict=True)
            )
    except zipfile.BadZipFile as error:
        raise DataError(f"{who}: {path.name} is neither a folder nor an .npz ({error}).") from error
    return _checked(who, images, labels, *names)


def _npy(who: str, archive: zipfile.ZipFile, name: str, sides: tuple[int, ...], file_name: str) -> NDArray[np.uint8]:
    """One array of an .npz, its header compared with the size of its entry before it is read."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as opened:
        file = cast(BinaryIO, opened)
        try:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(file)
            shape = shape[:1] if not sides and shape[1:] == (1,) else shape  # as Keras gives the labels of CIFAR-10
        except ValueError as error:
            raise DataError(f"{who}: {name} of {file_name} is no NumPy array ({error}).") from error
        start = file.tell()
        fits = len(shape) == 1 + len(sides) and shape[1:] == sides and not fortran
        if dtype.kind not in "iu" or not fits or entry.file_size != start + int(np.prod(shape)) * dtype.itemsize:
            raise DataError(
                f"{who}: {name} of {file_name} is {dtype.name} of shape {tuple(shape)} in {entry.file_size:,} bytes, "
                f"not whole numbers of shape {('N', *sides)}: it is no such array of {_NAMES[who]}."
            )
        values = np.frombuffer(file.read(), dtype=dtype).reshape(shape)
    if values.size and not (0 <= values.min() and values.max() <= 255):
        raise DataError(f"{who}: {name} of {file_name} has values outside 0 … 255. Give the pixels as recorded.")
    return values.astype(np.uint8)


def _checked(
    who: str, images: NDArray[np.uint8], labels: NDArray[np.uint8], images_name: str, labels_name: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if len(images) != len(labels):
        raise DataError(
            f"{who}: {images_name} has {len(images):,} images, {labels_name} {len(labels):,} labels. They do not belong together."
        )
    if len(labels) == 0:
        raise DataError(f"{who}: {images_name} holds no images.")
    if labels.max() > 9:
        raise DataError(f"{who}: {labels_name} has the label {labels.max()}; those of {_NAMES[who]} are 0 … 9.")
    return images, labels
