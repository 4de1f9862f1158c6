"""The house keeps its shape: who may import whom, module sizes, what importing costs."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "casinductor"
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def wing(name: str) -> str:
    return f"casinductor.{name}"


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("store", ["inductor", "worker", "cli", "inspect"]),
        ("inductor", ["store", "worker", "cli", "inspect"]),
        ("worker", ["store", "inductor", "cli", "inspect"]),
    ],
)
def test_wings_do_not_know_each_other(folder: str, forbidden: list[str]) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        for name in imported(path):
            for other in forbidden:
                assert not (name + ".").startswith(wing(other) + "."), f"{path} imports {name}"


#: Within the store, each room may use those before it, and itself.
STORE_ROOMS = (
    ("grace", "parallel", "sampling", "backend"),
    ("format",),
    ("backends", "index"),
    ("marks", "leads", "completions", "lookup"),
    ("refreshed", "founding"),
    ("store",),
    ("uses",),
    ("opening", "stats", "signers", "read", "write"),
    ("maintain",),
    ("verify",),
)
FLOOR = {room: floor for floor, rooms in enumerate(STORE_ROOMS) for room in rooms}


def store_room(name: str) -> str | None:
    parts = name.split(".")
    return parts[2] if parts[:2] == ["casinductor", "store"] and len(parts) > 2 else None


def runtime_imports(path: Path) -> set[str]:
    """What a module imports when it runs: not what only its type annotations name."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def test_the_rooms_of_the_store_stand_on_floors() -> None:
    for path in (PACKAGE / "store").rglob("*.py"):
        parts = path.relative_to(PACKAGE / "store").with_suffix("").parts
        room = parts[0]
        if room == "__init__":
            continue
        assert room in FLOOR, f"{path}: say in this test on which floor it stands"
        for name in runtime_imports(path):
            other = store_room(name)
            if other in FLOOR and other != room:
                assert FLOOR[other] < FLOOR[room], f"{path} imports {name}"


def test_only_the_index_speaks_sql_to_the_catalog() -> None:
    own_files = {"schedule.py", "facts.py", "export.py", "schema.py"}  # SQLite files of their own
    for path in MODULES:
        if path.parent.name == "index" or path.name in own_files:
            continue
        text = path.read_text()
        assert "SELECT " not in text, path
        assert "._connection" not in text, path


@pytest.mark.parametrize("module", ["inspect.view", "inspect.explain", "store.stats", "cli.ls"])
def test_who_only_looks_loads_nothing_that_writes(module: str) -> None:
    code = (
        f"import sys, casinductor.{module}\n"
        "loaded = {m for m in sys.modules if m.startswith('casinductor.')}\n"
        "bad = [m for m in loaded if any(part in m for part in ('.maintain', '.sync', "
        "'.restore', '.publish', '.draft'))]\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_imports_the_command_line() -> None:
    for path in MODULES:
        if path.parent.name != "cli" and path.name != "__main__.py":
            assert not any(name.startswith(wing("cli")) for name in imported(path)), path


def test_only_the_command_line_imports_inspection() -> None:
    for path in MODULES:
        if path.parent.name not in ("cli", "inspect"):
            assert not any(name.startswith(wing("inspect")) for name in imported(path)), path


def test_only_the_demo_imports_torch() -> None:
    users = {
        path.name for path in MODULES if any(n.split(".")[0] == "torch" for n in imported(path))
    }
    assert users == {"demo_worker.py"}


def test_nothing_can_unpickle() -> None:
    for path in MODULES:
        assert not {n.split(".")[0] for n in imported(path)} & {"pickle", "dill", "cloudpickle"}, (
            path
        )


def test_modules_are_small_and_say_their_invariant() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in MODULES}
    assert max(sizes.values()) <= 300, max(sizes, key=lambda path: sizes[path])
    assert statistics.median(n for n in sizes.values() if n > 5) <= 150
    for path in MODULES:
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert text, f"{path} has no docstring"
        if path.name != "__main__.py":
            assert "nvariant" in text, f"{path} states no invariant"


@pytest.mark.parametrize(
    "statement",
    [
        "import casinductor",
        "from casinductor import Cache, load_inductor_cache",
        "from casinductor.cli.main import main",
    ],
)
def test_importing_brings_no_torch(statement: str) -> None:
    code = f"{statement}\nimport sys\nassert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_alone_is_light() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport casinductor\n"
        "print(len({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert int(result.stdout) <= 30, "only importlib and typing, or what they bring"
