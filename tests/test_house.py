"""Rules of the house that no single module can test: arrows, sizes, and what help may import."""

import ast
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fedbench

PACKAGE = Path(fedbench.__file__).parent
ROOT = PACKAGE.parent
OPEN = {"errors", "files", "seeding", "settings", "registry", "imports", "__init__"}
BELOW_CONFIG = {"data", "models", "training", "evaluation"}
BELOW_FACES = {"config", "federation", "synthesis", "methods", "bench", "report", "session"}
MAY = {  # who may import whom, besides itself and what is open to all
    **{name: set() for name in OPEN},
    "data": set(),
    "models": set(),
    "training": {"data", "models"},
    "evaluation": {"data", "models"},
    "config": BELOW_CONFIG,
    "federation": BELOW_CONFIG | {"config"},
    "synthesis": BELOW_CONFIG | {"config", "federation"},
    "methods": BELOW_CONFIG | {"config", "federation", "synthesis"},
    "plugins": BELOW_CONFIG | {"config", "federation", "methods"},
    "bench": BELOW_CONFIG | {"config", "federation", "methods", "plugins"},
    "report": {"bench"},
    # What commands and calls from Python both do.
    "session": {"data", "config", "federation", "methods", "plugins", "bench", "report"},
    # What users import in their tests.
    "testing": BELOW_CONFIG | {"config", "federation", "methods", "plugins", "bench"},
    # What users import, and what they type: both put the others together.
    "api": BELOW_FACES | {"plugins"},
    "cli": BELOW_FACES | BELOW_CONFIG,
}
FACES = {"testing", "api", "cli"}
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported(path):
    """Return what a file imports: at its top, inside functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def imported_modules(path):
    """Return the modules of fedbench that a file imports."""
    for name in imported(path):
        for module in (name, name.rpartition(".")[0]):
            if module in MODULES:
                yield module
                break


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imported_modules(path):
        other = module.split(".")[1] if "." in module else "__init__"
        assert other in OPEN | {part} | MAY[part], f"{path} imports {module}"


def test_nothing_imports_the_faces():
    for part, others in MAY.items():
        assert not FACES & others, part


def test_the_command_line_alone_knows_typer():
    users = {path.relative_to(PACKAGE).parts[0] for path in FILES if "typer" in imported(path)}
    assert users == {"cli"}


def test_the_page_of_the_house_has_every_floor_above_those_that_it_knows():
    """``docs/layout.md`` is made of these."""
    from generated import FLOORS

    assert {*FLOORS} == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    for place, floor in enumerate(FLOORS):
        assert MAY[floor] & {*FLOORS[: place + 1]} == set(), floor


def test_settings_and_registry_import_errors_alone():
    for name in ("settings", "registry"):
        assert {*imported_modules(PACKAGE / f"{name}.py")} == {"fedbench.errors"}


def test_the_bench_reaches_methods_through_their_table():
    for path in (PACKAGE / "bench").rglob("*.py"):
        for module in imported_modules(path):
            assert not module.startswith("fedbench.methods."), f"{path} imports {module}"


def test_no_imports_go_round_in_a_circle():
    """Not at run time, not inside functions, and not for types."""
    graph = {module: {*imported_modules(path)} - {module} for module, path in MODULES.items()}
    assert any(graph.values())
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_only_what_tests_import_imports_pytest():
    """It is an extra: a wheel runs without it."""
    users = {path.parent.name for path in FILES if "pytest" in imported(path)}
    assert users == {"testing"}


TORCH_FREE = ("records", "suites.planfile", "suites.selection", "suites.suite")


def test_reports_take_only_torch_free_parts_of_the_bench():
    for path in (PACKAGE / "report").rglob("*.py"):
        for name in imported(path):
            if name.startswith("fedbench.bench"):
                parts = tuple(f"fedbench.bench.{part}" for part in TORCH_FREE)
                assert name.startswith(parts), f"{path} imports {name}"


def test_only_the_pool_makes_trainers():
    for path in FILES:
        if path.parent.name != "training":
            assert "Trainer(" not in path.read_text(), path


def test_the_global_generators_are_seeded_in_one_place_only():
    for path in FILES:
        if path.name != "seeding.py":
            text = path.read_text()
            for word in (
                "torch.manual_seed(",
                "np.random.seed(",
                "random.seed(",
                "seed_everything",
            ):
                assert word not in text, f"{path} calls {word}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 100, f"{path}: {node.name}"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["partitions"],
        ["methods"],
        ["datasets", "--json"],
        ["report", "nothing"],
        ["publish", "nothing"],
        ["tables", "nothing"],
        ["diff", "a", "b"],
        ["status", "nothing"],
        ["gc"],
        ["show", "patches", "nothing"],
        ["show", "synthetic", "nothing"],
        ["show", "generated", "nothing"],
        ["show", "guidance", "nothing"],
        ["pretrain-diffusion", "--help"],
        ["export", "nothing"],
    ],
)
def test_quick_commands_do_not_import_lightning(words, tmp_path):
    """Listing methods for the first time imports torch for their classes; nothing else does."""
    assert loaded(words, tmp_path) == (["torch"] if words == ["methods"] else [])


def test_listed_methods_and_finished_runs_import_no_torch(tmp_path):
    (tmp_path / "runs").mkdir()
    words = [
        "run",
        "--dataset",
        "digits",
        "--method",
        "local",
        "--train-size",
        "60",
        "--test-size",
        "60",
        "--epochs",
        "0",
    ]
    cell = [*words, "--clients", "2", "--width", "2"]
    for command in (["methods", "feddf"], cell):
        assert "torch" in loaded(command, tmp_path)
        assert loaded(command, tmp_path) == []


def loaded(words, folder):
    """Return which heavy packages a command imports that is run in a folder."""
    code = (
        f"import sys; sys.argv[1:] = {words!r}\n"
        "from fedbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', *sorted({'torch', 'lightning', 'wandb'} & set(sys.modules)),"
        " file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "FEDBENCH_HOME"},
        timeout=240,
        check=True,
    )
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("LOADED"))
    assert done.stderr.endswith(f"{line}\n"), "nothing is said after the command's own words"
    return line.split()[1:]


def test_text_files_name_their_encoding():
    """The locale's own may be anything."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert _encoded(node), f"{path}: {ast.unparse(node)}"


def _encoded(call):
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    words = [ast.unparse(argument) for argument in call.args]
    text = name in ("read_text", "write_text") or (
        name in ("open", "fdopen") and any(word in ("'w'", "'a'", "'r'") for word in words)
    )
    return not text or "'utf-8'" in words or any(each.arg == "encoding" for each in call.keywords)


def test_committed_files_name_no_machine_and_no_registry():
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "uv.lock" not in listed
    for name in listed:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".txt", ".yaml", ".json", "") and path.is_file():
            text = path.read_text()
            for word in ("/wo" + "rk/", "--index" + "-url", "--extra-index" + "-url"):
                assert word not in text, f"{name} names {word}"
