"""Generates the Python modules and stubs of the contract: `python tests/tooling/generate.py OUTPUT`.

The path of a .proto file is the path of its Python module, so the imports inside the generated code need no rewriting.
The programs that generate come from the lock, so the result depends on protos/ and requirements.lock alone.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

CONTRACT = Path(__file__).resolve().parents[2] / "protos"
PACKAGE = Path("tenantry/v1")
DOCSTRING = '"""The contract, generated from protos/tenantry/v1 by `make proto`. Do not edit."""\n'


def generate(output: Path) -> None:
    """Replace `output`/tenantry/v1 by what the contract generates now.

    Raises subprocess.CalledProcessError when protoc refuses the contract; its words are on standard error.
    """
    package = output / PACKAGE
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    scripts = Path(sys.executable).parent
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={CONTRACT}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={output}",
        f"--grpc_python_out={output}",
        f"--mypy_out=quiet:{output}",
        f"--mypy_grpc_out=quiet:{output}",
        *sorted(path.relative_to(CONTRACT).as_posix() for path in (CONTRACT / PACKAGE).glob("*.proto")),
    ]
    subprocess.run(command, check=True)
    (package / "__init__.py").write_text(DOCSTRING, encoding="utf-8")
    (package / "py.typed").touch()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Generate the Python code of the contract.")
    parser.add_argument("output", type=Path, help="source root to write, for example protos/gen")
    generate(parser.parse_args().output)
