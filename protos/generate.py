"""Generate the Python code of `protos/v1`: `python -m fedcore.protos.generate`; `--check` only compares."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "fedcore/protos/v1").glob("*.proto"))


def generate(target: Path) -> None:
    """Write *_pb2.py, *_pb2.pyi and, for files with a service, *_pb2_grpc.py below `target`."""
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    common = ["protoc", f"-I{ROOT}", f"-I{well_known}", f"--python_out={target}", f"--pyi_out={target}"]
    services = [source for source in SOURCES if "\nservice " in (ROOT / source).read_text(encoding="utf-8")]
    if protoc.main([*common, *SOURCES]) or protoc.main([*common, f"--grpc_python_out={target}", *services]):
        raise SystemExit("protoc failed; see its message above")


def stale(fresh: Path) -> list[str]:
    """Return the names of generated files that the repository lacks or has with other content."""
    names = [path.relative_to(fresh) for path in sorted((fresh / "fedcore/protos/v1").glob("*"))]
    return [
        str(name)
        for name in names
        if not (ROOT / name).exists() or (ROOT / name).read_bytes() != (fresh / name).read_bytes()
    ]


def main(arguments: list[str]) -> int:
    """Generate in place, or only compare with `--check`; return 1 where the committed code is stale."""
    if arguments != ["--check"]:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        differing = stale(Path(folder))
    if differing:
        sys.stderr.write(f"stale generated code: {', '.join(differing)}; run python -m fedcore.protos.generate\n")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
