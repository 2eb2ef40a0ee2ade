"""Who may import whom, and who may do what: the arrow goes one way."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from exporter.sources import Source, kinds
from history.cli import QUESTIONS

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for folder in ("exporter", "history") for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def where(path: Path) -> str:
    return str(path.relative_to(ROOT))


def using(package: str) -> set[str]:
    return {
        where(path)
        for path in MODULES
        if any(name == package or name.startswith(f"{package}.") for name in imports(path))
    }


def test_history_never_imports_the_exporter() -> None:
    assert {name for name in using("exporter") if name.startswith("history/")} == set()


def test_nothing_needs_the_dashboards() -> None:
    assert using("grafana") == set()


def test_sources_know_neither_sql_nor_prometheus() -> None:
    for package in (
        "sqlalchemy",
        "prometheus_client",
        "history.ingest.store",
        "history.db.schema",
        "exporter.gauges",
        "exporter.latest",
    ):
        assert {name for name in using(package) if name.startswith("exporter/sources/")} == set(), package


def test_every_source_is_a_source() -> None:
    wanted = {name for name in vars(Source) if not name.startswith("_")} | set(Source.__annotations__)
    assert len(wanted) > 10
    for kind in kinds():
        source = import_module(f"exporter.sources.{kind}").Source
        assert {name for name in wanted if not hasattr(source, name)} == set(), kind
    said = "".join(path.read_text() for path in (ROOT / "exporter/sources").rglob("*.py"))
    fields = set(re.findall(r'(?:UnknownValue|Values)\("(\w+)"', said))
    named = {field for kind in kinds() for field in import_module(f"exporter.sources.{kind}").Source.unknown_fields}
    assert fields == named and len(fields) > 5


def test_gauges_and_the_store_meet_in_one_place() -> None:
    gauges = {name for name in using("history.ingest.store") if name.startswith("exporter/gauges/")}
    assert gauges == {"exporter/gauges/exporter_itself.py"}  # which tells of the store itself
    assert {name for name in using("sqlalchemy") if name.startswith("exporter/gauges/")} == set()


def test_only_the_command_files_know_click() -> None:
    commands = {name for name in using("click") if not name.startswith("history/commands/")}
    assert commands == {
        "exporter/cli.py", "exporter/reconcile/commands.py", "exporter/check.py", "history/cli.py", "history/admin/cli.py",
        "history/output.py",
    }  # fmt: skip


def test_every_question_has_a_command_of_its_name() -> None:
    files = {path.stem for path in (ROOT / "history/commands").glob("[a-z]*.py")}
    assert files == set(QUESTIONS)


def test_only_one_file_starts_processes() -> None:
    assert using("subprocess") == {"exporter/sources/command.py"}


def test_every_thread_is_watched() -> None:
    made = {where(path) for path in MODULES if re.search(r"\bThread\(", path.read_text())}
    assert made == {"exporter/threads.py"}


def test_a_sources_own_words_stay_in_its_files() -> None:
    for scheduler in ("slurm", "htcondor", "demo"):
        mine = f"exporter/sources/{scheduler}/"
        users = using(f"exporter.sources.{scheduler}")
        assert {name for name in users if not name.startswith(mine)} <= {"exporter/detect.py", "exporter/cli.py"}


def test_the_htcondor_reader_stands_alone() -> None:
    reader = ROOT / "exporter/sources/htcondor/reader.py"
    outside = {name.partition(".")[0] for name in imports(reader)} - set(sys.stdlib_module_names)
    assert outside == {"classad2", "htcondor2"}


@pytest.mark.parametrize("path", MODULES, ids=where)
def test_every_public_thing_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            inner = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            assert node.name.startswith("_") or ast.get_docstring(node), node.name
            public = [] if node.name.startswith("_") or any(_overrides(base) for base in node.bases) else inner
        elif isinstance(node, ast.Module):
            public = [each for each in node.body if isinstance(each, ast.FunctionDef)]
        else:
            continue
        for function in public:
            assert function.name.startswith("_") or ast.get_docstring(function), (
                f"{getattr(node, 'name', '')}.{function.name}"
            )


def _overrides(base: ast.expr) -> bool:
    """Tell whether a class takes its methods' documentation from elsewhere."""
    return "TypeDecorator" in ast.unparse(base)
