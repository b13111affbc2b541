"""The rules, as functions of source text: each gives the violations as sentences, none when all is well."""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.architecture import house

BROAD = {"Exception", "BaseException"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported module: `module` is what was written, made absolute; `names` what was taken from it."""

    module: str
    names: tuple[str, ...]
    line: int
    inside_function: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One module's text, read."""

    name: str
    tree: ast.Module
    line_count: int
    imports: tuple[Import, ...]

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]


def parse(name: str, text: str, *, is_package: bool = False) -> Source:
    """Read the text of the module with this dotted name."""
    tree = ast.parse(text)
    home = name if is_package else name.rpartition(".")[0]
    return Source(
        name=name, tree=tree, line_count=len(text.splitlines()), imports=tuple(_imports(tree, home, inside=False))
    )


def read_sources(root: Path, packages: Iterable[str]) -> list[Source]:
    """Every module below these directories."""
    sources = []
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            sources.append(parse(name, path.read_text(encoding="utf-8"), is_package=is_package))
    return sources


def _imports(node: ast.AST, home: str, *, inside: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module=alias.name, names=(), line=child.lineno, inside_function=inside)
        elif isinstance(child, ast.ImportFrom):
            base = home.rsplit(".", child.level - 1)[0] if child.level else ""
            module = ".".join(part for part in (base, child.module) if part)
            names = tuple(alias.name for alias in child.names)
            yield Import(module=module, names=names, line=child.lineno, inside_function=inside)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(child, home, inside=inside or is_function)


def below(module: str, home: str) -> bool:
    """Whether a module is this one, or somewhere in this package."""
    return module == home or module.startswith(f"{home}.")


def project_imports(source: Source, known: frozenset[str]) -> Iterator[tuple[str, Import]]:
    """The modules of the project that a module imports; `from package import module` is an import of the module."""
    for imported in source.imports:
        if imported.module.partition(".")[0] not in house.PACKAGES:
            continue
        submodules = [f"{imported.module}.{name}" for name in imported.names if f"{imported.module}.{name}" in known]
        for submodule in submodules:
            yield submodule, imported
        if len(submodules) < len(imported.names) or not imported.names:
            yield imported.module, imported


def foreign_imports(source: Source) -> list[str]:
    """nerve and synapse never import each other; smartstack imports neither."""
    return [
        f"{source.name}:{imported.line} imports {imported.module}, but {source.package} never imports {foreign}"
        for imported in source.imports
        for foreign in house.FOREIGN.get(source.package, ())
        if below(imported.module, foreign)
    ]


def layer(module: str) -> int:
    """0 facts and decisions, 1 shells, 2 daemons, 3 command lines."""
    if module in house.COMMAND_LINES or module.endswith("__main__"):
        return 3
    if module in house.DAEMONS:
        return 2
    return 0 if module in house.PURE else 1


def upward_imports(source: Source, known: frozenset[str]) -> list[str]:
    """A module imports only from its own layer and from those below."""
    own = layer(source.name)
    return [
        f"{source.name}:{imported.line} (layer {own}) imports {module} (layer {layer(module)})"
        for module, imported in project_imports(source, known)
        # A package's own first line holds no code: to import its version is no step up.
        if layer(module) > own and module not in house.PACKAGES
    ]


def impure_imports(source: Source) -> list[str]:
    """A pure module imports nothing that sees the world, and no library of others."""
    if source.name not in house.PURE:
        return []
    return [
        f"{source.name}:{imported.line} is pure and imports {imported.module}"
        for imported in source.imports
        if (root := imported.module.partition(".")[0]) in house.IMPURE
        or (root not in house.PACKAGES and root not in sys.stdlib_module_names)
    ]


def mutable_facts(source: Source) -> list[str]:
    """A dataclass of a pure module is frozen and slotted."""
    if source.name not in house.PURE:
        return []
    return [
        f"{source.name}:{node.lineno} {node.name} is a dataclass without frozen=True, slots=True"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
        if _called(decorator) == "dataclass" and not {"frozen", "slots"} <= _true_keywords(decorator)
    ]


def _called(node: ast.expr) -> str:
    function = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(function).rpartition(".")[2]


def _true_keywords(node: ast.expr) -> set[str]:
    if not isinstance(node, ast.Call):
        return set()
    return {word.arg for word in node.keywords if word.arg and ast.unparse(word.value) == "True"}


def libraries_abroad(source: Source, homes: Mapping[str, tuple[str, ...]] = house.HOMES) -> list[str]:
    """Each library of others is imported in its home only, and has one."""
    violations = []
    for imported in source.imports:
        library = imported.module.partition(".")[0]
        if library in house.PACKAGES or library in sys.stdlib_module_names:
            continue
        if library not in homes:
            violations.append(f"{source.name}:{imported.line} imports {library}, which has no home in house.HOMES")
        elif not any(below(source.name, home) for home in homes[library]):
            violations.append(
                f"{source.name}:{imported.line} imports {library}, at home in {', '.join(homes[library])}"
            )
    return violations


def hidden_imports(source: Source) -> list[str]:
    """No import stands inside a function, except in command lines and where the table says."""
    if source.name in house.COMMAND_LINES:
        return []
    allowed = house.LAZY_IMPORTS.get(source.name, ())
    return [
        f"{source.name}:{imported.line} imports {imported.module} inside a function"
        for imported in source.imports
        if imported.inside_function
        and not any(word in allowed for word in (imported.module, *(f"{imported.module}.{n}" for n in imported.names)))
    ]


def broad_excepts(source: Source) -> list[str]:
    """`except Exception` stands in two places, once in each; nothing else catches everything."""
    lines = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = [] if node.type is None else node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if node.type is None or BROAD & {ast.unparse(kind) for kind in caught}:
                lines.append(node.lineno)
        elif isinstance(node, ast.Call) and _called(node) == "suppress" and BROAD & set(map(ast.unparse, node.args)):
            lines.append(node.lineno)
    allowed = 1 if source.name in house.BROAD_EXCEPTS else 0
    return [f"{source.name}:{line} catches everything" for line in sorted(lines)[allowed:]]


def missing_docstring(source: Source) -> list[str]:
    """A module's first line says what room it is."""
    return [] if (ast.get_docstring(source.tree) or "").strip() else [f"{source.name} has no docstring"]


def too_long(source: Source) -> list[str]:
    """A module fits in one head."""
    if source.line_count <= house.LINE_LIMIT:
        return []
    return [f"{source.name} has {source.line_count} lines, over the limit of {house.LINE_LIMIT}"]


def cycles(sources: Iterable[Source]) -> list[str]:
    """No module imports itself by way of others; an import inside a function counts as well."""
    listed = list(sources)
    known = frozenset(source.name for source in listed)
    graph = {source.name: sorted({name for name, _ in project_imports(source, known)}) for source in listed}
    found: list[str] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append(" -> ".join([*path[path.index(module) :], module]))
            return
        if module in done:
            return
        for imported in graph.get(module, ()):
            visit(imported, [*path, module])
        done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found


def tests_without_rule(source: Source) -> list[str]:
    """Every test has a docstring, which states the rule that it holds."""
    return [
        f"{source.name}:{node.lineno} {node.name} has no docstring"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]


def sleeping_tests(source: Source) -> list[str]:
    """A test waits for a condition, never for a time."""
    return [
        f"{source.name}:{node.lineno} sleeps"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and _called(node) == "sleep"
    ]
