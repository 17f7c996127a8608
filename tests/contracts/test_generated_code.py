"""The committed generated code is what the contract generates, and runs on the fast implementation."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from google.protobuf.internal import api_implementation

from tests.tooling.generate import PACKAGE, generate

REPOSITORY = Path(__file__).resolve().parents[2]
GENERATED = REPOSITORY / "protos/gen" / PACKAGE


def _contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()}


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    """Regenerating changes nothing; otherwise `make proto` was forgotten."""
    generate(tmp_path)
    assert _contents(GENERATED) == _contents(tmp_path / PACKAGE)


def test_protobuf_is_the_upb_implementation() -> None:
    """Messages are handled by upb, not by the pure Python implementation, which is many times slower."""
    assert api_implementation.Type() == "upb"


def test_lower_bounds_are_the_generators_versions() -> None:
    """The generated modules refuse an older runtime when they are imported, so the bounds name those versions."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = dict(dependency.split(">=") for dependency in project["dependencies"])
    protobuf = re.search(r"Protobuf Python Version: (\S+)", (GENERATED / "tenant_pb2.py").read_text(encoding="utf-8"))
    assert protobuf is not None
    assert bounds["protobuf"] == protobuf[1]
    assert bounds["grpcio"] == metadata.version("grpcio-tools")
