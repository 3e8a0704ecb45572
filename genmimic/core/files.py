# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, and files of strangers read within a limit."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genmimic.core.errors import InputFileError


@contextmanager
def whole_file(path: str | Path, *, suffix: str | None = None) -> Iterator[Path]:
    """Give a temporary file to fill, which takes the place of ``path`` when the block ends well, and else is removed.

    It lies beside ``path``.

    Args:
        path: The file to be.
        suffix: Of the temporary file. By default ``path``'s own, for those who tell the kind of a file by it;
            ``.tmp`` where a search of the folder should never meet a part of a file.

    Raises:
        InputFileError: The folder does not exist, or the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputFileError(f"{path}: folder {path.parent} does not exist")
    temporary: Path | None = None
    try:
        ending = path.suffix if suffix is None else suffix
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=ending)
        temporary = Path(name)
        os.close(handle)
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except InputFileError:  # which is an OSError, too, and has its own words
        raise
    except OSError as error:
        raise InputFileError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file that appears whole or not at all. Raises InputFileError as `whole_file` does."""
    with whole_file(path, suffix=".tmp") as temporary:
        temporary.write_bytes(content)


def read_source(path: Path, limit: int) -> bytes:
    """Return the content of a motion file, unpacked when it is gzip, of at most ``limit`` bytes.

    Raises:
        InputFileError: It is missing, empty, larger, damaged, or cannot be read.
    """
    try:
        if not path.is_file():
            raise InputFileError(f"{path}: no such file")
        if path.stat().st_size > limit:
            raise InputFileError(f"{path}: holds {path.stat().st_size} bytes, limit {limit}")
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(limit + 1)
            if len(data) > limit:
                raise InputFileError(f"{path}: holds more than {limit} bytes unpacked")
    except InputFileError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputFileError(f"{path}: damaged or truncated gzip file ({error})") from None
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not data:
        raise InputFileError(f"{path}: is empty, expected a motion")
    return data
