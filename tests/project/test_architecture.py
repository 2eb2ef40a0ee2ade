"""Who may import whom, and who may do what: the arrow goes one way."""

import ast
import re
import sys
from collections.abc import Collection, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from exporter.sources import Source, kinds
from history.catalogue import QUESTIONS, question
from tests.places import ROOT, TESTS

STEPS = {"versions", "before_release"}
"""Folders of the schema's steps, which are frozen."""
MODULES = sorted(path for folder in ("exporter", "history") for path in (ROOT / folder).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
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


FLOORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("words and plain data", (
        "history", "history.vocabulary", "history.fields", "history.wording", "history.records", "history.policies", "history.batch", "history.answer", "history.render.*", "history.timespec",
        "history.output", "history.rollups", "history.rollups.definitions", "history.rollups.from_jobs", "exporter", "exporter.settings",
        "history.strict_yaml", "history.settings", "history.configuration", "history.threads", "history.logs", "exporter.lookups", "exporter.vo",
    )),
    ("readings", ("exporter.readings", "exporter.job_sums")),
    ("sources", ("exporter.sources.*",)),
    ("database", ("history.db.*",)),
    ("serving", ("history.web", "history.web.connections", "history.web.server", "history.web.toolkit_config")),
    ("configuration", ("exporter.detect", "exporter.config")),
    ("rollups", ("history.rollups.*",)),
    ("schema steps", ("history.db.upgrade",)),
    ("ingest", ("history.ingest.*", "history.spool", "history.spool.frames")),
    ("comparing and care", (
        "history.reconcile.*", "history.spool.pieces", "history.admin", "history.admin.prune", "history.admin.stats",
    )),
    ("questions", ("history.questions.*",)),
    ("the catalogue of questions", ("history.catalogue.*",)),
    ("pages of the questions", ("history.web.*",)),
    ("commands of the history", ("history.commands.*", "history.cli", "history.admin.cli")),
    ("recording", ("exporter.delivery", "exporter.recorder", "exporter.retention", "exporter.history_counters")),
    ("the latest readings", ("exporter.latest", "exporter.summary")),
    ("gauges", ("exporter.gauges.*", "exporter.legacy_slurm_names", "exporter.newer_slurm_names")),
    ("the page's text", ("exporter.exposition",)),
    ("polling, comparing, serving", ("exporter.poller", "exporter.reconcile.*", "exporter.web.*")),
    ("the daemon", ("exporter.daemon", "exporter.check")),
    ("commands of the exporter", ("exporter.cli", "exporter.start")),
)  # fmt: skip
"""From the ground up: a module imports what is on its own floor or below. The longest pattern that fits tells which."""


def module_of(path: Path) -> str:
    """Return a file's dotted name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def graph() -> dict[str, set[str]]:
    """Return which modules each module imports, at its head or later; the steps of migrations are no part of the house."""
    paths = {module_of(path): path for path in MODULES if not STEPS & set(path.parts)}
    found = {}
    for name, path in paths.items():
        said = [each for each in imports(path) if each in paths and each != name]
        # `from history.db import schema` names both; the package is meant where nothing of it is a module
        found[name] = {
            each
            for each in said
            if not any(other.startswith(f"{each}.") for other in said) or _meant(path, each, paths)
        }
    return found


def _meant(path: Path, package: str, modules: Collection[str]) -> bool:
    """Return whether a file imports something that a package's own file defines."""
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == package
        and any(f"{package}.{alias.name}" not in modules for alias in node.names)
        for node in ast.walk(tree_of(path))
    )


def floor_of(module: str) -> int:
    """Return a module's floor, counted from the ground."""
    fitting = [
        (len(pattern), number)
        for number, (_, patterns) in enumerate(FLOORS)
        for pattern in patterns
        if module == pattern or (pattern.endswith(".*") and f"{module}.".startswith(pattern[:-1]))
    ]
    assert fitting, f"{module}: no floor of FLOORS has it"
    return max(fitting)[1]


def test_no_arrow_goes_up() -> None:
    for number, (name, patterns) in enumerate(FLOORS):
        print(f"{number:2} {name}: {', '.join(patterns)}")
    up = {
        (module, other) for module, others in graph().items() for other in others if floor_of(other) > floor_of(module)
    }
    assert up == set()


def test_there_are_no_circles() -> None:
    found = graph()
    while free := [module for module, others in found.items() if not others & found.keys()]:
        for module in free:
            del found[module]
    assert found == {}


def test_history_never_imports_the_exporter() -> None:
    assert {name for name in using("exporter") if name.startswith("history/")} == set()


def test_steps_of_the_schema_import_nothing_that_changes() -> None:
    for path in MODULES:
        if STEPS & set(path.parts):
            assert {name.partition(".")[0] for name in imports(path)} & {"history", "exporter"} == set(), where(path)


def test_nothing_needs_the_dashboards() -> None:
    assert using("grafana") == set()


def test_sources_know_neither_sql_nor_prometheus() -> None:
    """Neither by themselves nor through what they import."""
    known, found = graph(), {module for module in graph() if module.startswith("exporter.sources")}
    while more := {other for module in found for other in known[module]} - found:
        found |= more
    paths = {module_of(path): path for path in MODULES}
    for package in ("sqlalchemy", "prometheus_client", "click"):
        users = {where(paths[module]) for module in found} & using(package)
        assert users == set(), package


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


def test_every_question_is_in_the_catalogue_under_its_name() -> None:
    files = {path.stem for path in (ROOT / "history/catalogue").glob("[a-z]*.py")}
    assert files == set(QUESTIONS)
    assert {name: question(name).name for name in QUESTIONS} == {name: name for name in QUESTIONS}


SUBJECTS = {
    "agreement",
    "browser",
    "corpus",
    "description",
    "late_rows",
    "late_submissions",
    "sites",
    "situations",
    "translation",
    "whole_readings",
}
"""Tests of what no one module does alone."""


def test_a_modules_test_is_found_by_its_name() -> None:
    for folder in ("exporter", "history"):
        for path in (TESTS / folder).rglob("test_*.py"):
            mirrored = ROOT / path.parent.relative_to(TESTS)
            subject = path.stem.removeprefix("test_")
            of_a_module = (mirrored / f"{subject}.py").exists() or subject == mirrored.name
            assert of_a_module or subject in SUBJECTS, where(path)


def test_no_test_imports_another() -> None:
    for path in TESTS.rglob("*.py"):
        others = {name for name in imports(path) if re.match(r"tests\.(\w+\.)*test_\w+", name)}
        assert others == set(), where(path)


LONGEST_FUNCTION = 50


def test_a_function_fits_on_a_screen() -> None:
    for path in (*MODULES, *(ROOT / "grafana").rglob("*.py")):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= LONGEST_FUNCTION, f"{where(path)}: {node.name} has {lines} lines: divide it"


def test_only_one_file_starts_processes() -> None:
    assert using("subprocess") == {"exporter/sources/command.py"}


def test_every_thread_is_watched() -> None:
    made = {where(path) for path in MODULES if re.search(r"\bThread\(", path.read_text())}
    assert made == {"history/threads.py"}


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
    tree = tree_of(path)
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
    """Return whether a class takes its methods' documentation from elsewhere."""
    return "TypeDecorator" in ast.unparse(base)
