"""What a file is, by its first bytes, so that errors can name what was found instead of weights."""

import json
import zipfile
from pathlib import Path
from typing import Literal

WeightKind = Literal["safetensors", "zip", "pickle"]
"""Files that hold weights: safetensors; what `torch.save` writes; what `torch.save` wrote before torch 1.6."""

_HEAD = 4096
_LARGEST_HEADER = 100_000_000  # the largest that safetensors reads
_AGAIN = "download or copy it again"
_SAFETENSORS = "take the safetensors file of the same model"
_UNFINISHED = (".part", ".partial", ".incomplete", ".crdownload", ".download", ".aria2", ".tmp", ".opdownload")

# The first bytes of files, and what such files are.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"GGUF", f"is a GGUF file, whose quantised weights are not read here; {_SAFETENSORS}"),
    *((magic, f"is a GGML file, which is not read here; {_SAFETENSORS}") for magic in (b"lmgg", b"tjgg", b"fmgg")),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file it points to; `git lfs pull` fetches that"),
    (b"version https://hawser", "is a Git LFS pointer, not the file it points to; `git lfs pull` fetches that"),
    (b"# xet version", "is a Xet pointer, not the file it points to; download that"),
    (b"\x93NUMPY", f"is a NumPy array (.npy); {_SAFETENSORS}"),
    (b"\x89HDF\r\n\x1a\n", f"is an HDF5 file, as Keras writes them; {_SAFETENSORS}"),
    (b"PK\x05\x06", "is an empty zip archive"),
    (b"\x1f\x8b", "is compressed by gzip; unpack it first"),
    (b"BZh", "is compressed by bzip2; unpack it first"),
    (b"\xfd7zXZ\x00", "is compressed by xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd; unpack it first"),
    (b"\x04\x22\x4d\x18", "is compressed by lz4; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it first"),
    (b"Rar!", "is a RAR archive; unpack it first"),
    (b"\x89PNG", "is a picture (PNG)"),
    (b"\xff\xd8\xff", "is a picture (JPEG)"),
    (b"GIF8", "is a picture (GIF)"),
    (b"RIFF", "is a picture, sound or video (RIFF)"),
    (b"\x1aE\xdf\xa3", "is a video (Matroska)"),
    (b"%PDF", "is a PDF"),
    (b"\x7fELF", "is a program (ELF)"),
    (b"MZ", "is a program (Windows)"),
    (b"SQLite format 3", "is a database (SQLite)"),
    (b"PAR1", "is a table (Parquet)"),
)


def weight_kind(file: Path) -> WeightKind:
    """Which kind of weights a file holds, by its content; its name does not count.

    Raises:
        ValueError: If it holds none, or ends too early; the message says what it is instead.
        OSError: If it cannot be read.
    """
    found, words = _kind(file)
    if found is None:
        unfinished = file.suffix.lower() in _UNFINISHED
        raise ValueError(f"{file} {words}{'; its name is that of a download not finished' if unfinished else ''}")
    return found


def what_is(file: Path, *, safetensors: bool = False) -> str | None:
    """What a file is instead of weights, as the end of a sentence; None: it holds weights.

    Args:
        file: The file.
        safetensors: Whether only safetensors files count as weights.

    Raises:
        OSError: If the file cannot be read.
    """
    found, words = _kind(file)
    if safetensors and found in ("zip", "pickle"):
        return "is a pickle, as torch saves them"
    return words or None


def _kind(file: Path) -> tuple[WeightKind | None, str]:
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
        size = opened.seek(0, 2)
    if not head:
        return None, f"is damaged: it is empty; {_AGAIN}"
    # This comes first: the file begins with a length, which may equal the first bytes of other kinds.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_HEADER:
        problem = _cut_off(file, size)
        return ("safetensors", "") if problem is None else (None, problem)
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(file)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle", ""
    return None, _foreign(head, size)


def _of_zip(file: Path) -> tuple[WeightKind | None, str]:
    """The kind of a zip archive, by the names in it; `torch.save` and others write such archives."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None, f"is damaged: it begins as a zip archive, as torch writes them, and ends too early; {_AGAIN}"
    inner = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in inner or any("/code/" in f"/{name}" for name in names):
        return None, f"is a TorchScript program, and files that run code are not read; {_SAFETENSORS}"
    if "data.pkl" in inner:
        return "zip", ""
    if any(name.endswith(".npy") for name in names):
        return None, f"is a NumPy archive (.npz); {_SAFETENSORS}"
    if any(name.endswith(".h5") for name in names):
        return None, f"is a Keras archive; {_SAFETENSORS}"
    return None, f"is a zip archive of {len(names)} files, not weights; unpack it first"


def _cut_off(file: Path, size: int) -> str | None:
    """What is wrong with the length or the header of a safetensors file; None: nothing."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 + length:
            return f"is damaged: it ends after {size:,} bytes, within its header of {length:,}; {_AGAIN}"
        try:
            header = json.loads(opened.read(length))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            return f"is damaged: its header is none of safetensors; {_AGAIN}"
    whole = 8 + length + max(ends, default=0)
    if size < whole:
        return f"is damaged: it ends after {size:,} of {whole:,} bytes; {_AGAIN}"
    if size > whole:
        return f"is damaged: it has {size - whole:,} bytes more than its header says; {_AGAIN}"
    return None


def _foreign(head: bytes, size: int) -> str:
    """What a file is, given that it holds no weights."""
    for beginning, words in _BEGINNINGS:
        if head.startswith(beginning):
            return words
    if size < 4:
        return _few_bytes(size)
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it first"
    if head[4:8] == b"ftyp":
        return "is a video (MP4)"
    if head[4:8] == b"TFL3":
        return f"is a TensorFlow Lite model; {_SAFETENSORS}"
    if not any(head):
        return f"is damaged: it begins with {len(head):,} bytes of zeros, as a download leaves that was not finished"
    if (text := _as_text(head)) is not None:
        return _text_kind(text)
    if head[0] == 0x08 and head[1] < 32 and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x2a", b"\x3a", b"\x42"):
        return f"is an ONNX or TensorFlow graph; {_SAFETENSORS}"
    if (0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)) and _is_msgpack_name(head):
        return f"is a msgpack file, as Flax writes them; {_SAFETENSORS}"
    if size < 9:
        return _few_bytes(size)
    return f"is damaged or no weights: it begins with the bytes {head[:8].hex(' ')}, which no known kind does"


def _few_bytes(size: int) -> str:
    return f"is damaged: it has only {size} bytes; {_AGAIN}"


def _is_msgpack_name(head: bytes) -> bool:
    """Whether a name follows the beginning of a msgpack map."""
    first = head[{0xDE: 3, 0xDF: 5}.get(head[0], 1) :][:1]
    return bool(first) and (0xA0 <= first[0] <= 0xBF or first[0] in (0xD9, 0xDA, 0xDB))


def _as_text(head: bytes) -> str | None:
    """The first bytes of a file as text; None: they are no text."""
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        # The last characters may be cut.
        text = head.decode(encoding) if len(head) < _HEAD else head.decode(encoding, errors="ignore")
    except UnicodeDecodeError:
        return None
    if len(head) == _HEAD and len(text.encode("utf-8")) < _HEAD // 2:
        return None
    strange = sum(not character.isprintable() and character not in "\t\r\n\f" for character in text)
    return text.strip() if strange == 0 else None


def _text_kind(text: str) -> str:
    low = text.lower()
    if low.startswith(("<!doctype html", "<html", "<head", "<!--", "<script", "<meta", "<body")):
        return "is a web page (HTML), not the file itself; a download link that wants a login gives such pages"
    if low.startswith("<"):
        return f"is an XML file, such as a server's refusal: {_shown(text)}"
    if text.startswith(("{", "[")):
        if '"weight_map"' in text:
            return "is an index that names files of weights (JSON); give its folder instead"
        return "is a JSON file, not weights"
    return f"is a text file, not weights; it begins {_shown(text)}"


def _shown(text: str) -> str:
    line = " ".join(text[:200].split())
    return repr(line if len(line) <= 60 else f"{line[:57]}...")
