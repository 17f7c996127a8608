"""Stores on SQLite for tests that begin with an empty one. Making its tables takes more than most of these tests."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from tenantry.master.sql.database import Database


def empty_store(folder: Path) -> str:
    """The DSN of a store in this folder that has its tables and no data: a copy of one that this process made."""
    path = folder / "master.db"
    shutil.copy(_made_once(), path)
    return f"sqlite:///{path}"


@functools.cache
def _made_once() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tenantry-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Database.open(f"sqlite:///{folder}/master.db").close()
    return folder / "master.db"
