"""What makes an installation rot elsewhere: upper pins, private names of dependencies, imports that nobody declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(package, name taken from it or empty) of every absolute import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def is_foreign(package: str) -> bool:
    top = package.partition(".")[0]
    return top not in sys.stdlib_module_names and top not in ("endcap", "__future__")


def is_private(name: str) -> bool:
    return re.match(r"_[^_]", name) is not None  # `ibis._` and `__version__` are for everybody


def test_the_core_has_lower_bounds_only():
    for requirement in PROJECT["dependencies"]:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+(\[[a-z]+\])?>=[0-9.]+", requirement), requirement


def test_what_is_imported_is_declared():
    requirements = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["deep"]]
    declared = {re.split(r"[\[>=<]", requirement)[0].lower().replace("_", "-") for requirement in requirements}
    known = packages_distributions()
    for path in SOURCES:
        for package, _ in imports(ast.parse(path.read_text())):
            if is_foreign(package):
                top = package.partition(".")[0]
                owners = {name.lower().replace("_", "-") for name in known.get(top, [top])}
                assert owners & declared, f"{path.relative_to(ROOT)} imports {top}, which is not declared"


def test_no_private_name_of_a_dependency_is_used():
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        modules = {
            alias.asname or alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if is_foreign(alias.name)
        }
        private = [
            f"{package}.{name}"
            for package, name in imports(tree)
            if is_foreign(package) and any(map(is_private, (*package.split("."), name)))
        ]
        private += [
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
            and is_private(node.attr)
        ]
        assert not private, f"{path.relative_to(ROOT)} uses {private}"
