"""The project's rules about itself: pins, lock, packaging, and what must not be found in it.

Each rule is a function that returns what breaks it, tried on a small text that does and one that
does not, and then on the repository.
"""

import ast
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
import yaml

#: Written in two parts, so that a plain search finds no use of what these tests forbid.
PARSER = "arg" + "parse"
OLD_PATHS = "os" + ".path"
FILTER = "filter" + "warnings"

REPOSITORY = Path(__file__).resolve().parent.parent

# Data and trained models, which belong to DVC.
DATA_SUFFIXES = frozenset("""
    .arpa .bin .ckpt .csv .db .dict .engine .fst .gz .h5 .hdf5 .json .jsonl .npy .npz .onnx
    .parquet .pickle .pkl .plan .pt .pth .safetensors .sqlite .tar .tsv .xz .zip
    """.split())
SNAKE_CASE = re.compile(r"_*[a-z][a-z0-9]*(_[a-z0-9]+)*_*")
TYPE_NAME = re.compile(r"_?[A-Z][A-Za-z0-9]*")
CONSTANT_NAME = re.compile(r"_?[A-Z][A-Z0-9_]*|__[a-z_]+__")
# pytest reads this one by its name; it is as constant as the others.
MODULE_LEVEL_NAMES = frozenset({"pytestmark"})
SHORT_NAMES = frozenset({"i", "j", "k", "_"})
BASE_DEPENDENCIES = {"fire", "hydra-core", "numpy", "omegaconf", "onnxruntime", "tqdm"}


def files_of_the_repository() -> list[PurePosixPath]:
    """Return what Git has or would take: a rule must hold before a commit too."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    names = sorted(set(listing.stdout.split("\0")) - {""})
    return [PurePosixPath(name) for name in names if (REPOSITORY / name).is_file()]


def python_sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield the name and the syntax tree of each Python file of the repository."""
    for path in files_of_the_repository():
        if path.suffix == ".py":
            yield str(path), ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))


def load_pyproject() -> dict:
    """Return the contents of pyproject.toml."""
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def locked_packages() -> list[dict]:
    """Return the packages of poetry.lock, one dictionary each."""
    return tomllib.loads((REPOSITORY / "poetry.lock").read_text(encoding="utf-8"))["package"]


def requirement_name(requirement: str) -> str:
    """Return the name that a requirement begins with: `dvc-s3` of `dvc-s3>=3.3,<4`."""
    return re.match(r"[A-Za-z0-9._-]+", requirement).group().lower()


# Rules about names of files


def find_data_files(paths: list[PurePosixPath]) -> list[str]:
    """Return the files that hold data or models, by their suffix."""
    return [str(path) for path in paths if path.suffix.lower() in DATA_SUFFIXES]


def find_bad_code_names(paths: list[PurePosixPath]) -> list[str]:
    """Return the code files that are not in snake_case, or lie in a package that is not."""
    bad = []
    for path in paths:
        is_python = path.suffix in {".py", ".pyi"}
        parts = [path.stem, *(path.parts[:-1] if is_python else ())]
        if is_python or path.suffix == ".sh":
            bad.extend(str(path) for part in parts if not SNAKE_CASE.fullmatch(part))
    return bad


# Rules about code


def find_other_parser(tree: ast.AST) -> list[int]:
    """Return the lines that import the standard library's parser, or something of it."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        lines += [node.lineno for module in modules if module.split(".")[0] == PARSER]
    return lines


def find_os_path(tree: ast.AST) -> list[int]:
    """Return the lines that use the old path functions, under any name for os."""
    aliases = {"os"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {
                alias.asname for alias in node.names if alias.name == "os" and alias.asname
            }
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = any(alias.name in {OLD_PATHS, "posixpath", "ntpath"} for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports_path = node.module == "os" and any(
                alias.name == "path" for alias in node.names
            )
            found = imports_path or node.module in {OLD_PATHS, "posixpath", "ntpath"}
        elif isinstance(node, ast.Attribute):
            is_os = isinstance(node.value, ast.Name) and node.value.id in aliases
            found = is_os and node.attr == "path"
        else:
            found = False
        if found:
            lines.append(node.lineno)
    return lines


def find_silenced_warnings(tree: ast.AST) -> list[int]:
    """Return the lines that silence warnings: by a filter, in a context, by pytest's mark."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        function = node.func.id if isinstance(node.func, ast.Name) else function
        if function not in {FILTER, "simplefilter", "catch_warnings"}:
            continue
        values = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "action")]
        constants = [value.value for value in values if isinstance(value, ast.Constant)]
        if any(str(value).startswith("ignore") for value in constants):
            lines.append(node.lineno)
    return lines


def find_short_names(tree: ast.AST) -> list[tuple[int, str]]:
    """Return line and name of everything that is given a name of one letter, but i, j, k and _."""
    given = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names = [node.id]
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names = [node.attr]
        elif isinstance(node, ast.arg):
            names = [node.arg]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            names = [node.name or ""]
        elif isinstance(node, ast.MatchMapping):
            names = [node.rest or ""]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.asname or "" for alias in node.names]
        else:
            continue
        given += [
            (getattr(node, "lineno", 0), name)
            for name in names
            if len(name) == 1 and name not in SHORT_NAMES
        ]
    return given


def is_main_guard(statement: ast.stmt) -> bool:
    """Tell whether a statement is `if __name__ == "__main__":`."""
    return (
        isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"
    )


def is_type_checking_block(statement: ast.stmt) -> bool:
    """Tell whether a statement is `if TYPE_CHECKING:` around nothing but imports."""
    return (
        isinstance(statement, ast.If)
        and ast.unparse(statement.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        and all(isinstance(inner, ast.Import | ast.ImportFrom) for inner in statement.body)
        and not statement.orelse
    )


def is_constant(statement: ast.stmt) -> bool:
    """Tell whether a statement defines constants, or names a type."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    else:
        return False
    names = []
    for target in targets:
        elements = target.elts if isinstance(target, ast.Tuple) else [target]
        names += [element.id if isinstance(element, ast.Name) else "" for element in elements]
    # `Phones = tuple[str, ...]` names a type, and neither runs nor holds anything; nor does a
    # variable of types.
    is_type = isinstance(statement.value, ast.Subscript | ast.BinOp | ast.Name | ast.Attribute)
    if is_type or is_type_variable(statement.value):
        patterns = (CONSTANT_NAME, TYPE_NAME)
    else:
        patterns = (CONSTANT_NAME,)
    return all(
        name in MODULE_LEVEL_NAMES or any(pattern.fullmatch(name) for pattern in patterns)
        for name in names
    )


def is_type_variable(value: ast.expr) -> bool:
    """Tell whether an expression is `TypeVar("Name")`."""
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") == "TypeVar"


def find_module_level_code(tree: ast.Module) -> list[int]:
    """Return the lines at module level with more than imports, definitions and constants.

    One call under `if __name__ == "__main__":` is allowed too.
    """
    imports = ast.Import | ast.ImportFrom
    definitions = imports | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    lines = []
    for position, statement in enumerate(tree.body):
        if is_main_guard(statement):
            body = statement.body
            is_one_call = len(body) == 1 and isinstance(body[0], ast.Expr)
            allowed = is_one_call and isinstance(body[0].value, ast.Call) and not statement.orelse
        elif isinstance(statement, ast.Expr):
            is_docstring = position == 0 and isinstance(statement.value, ast.Constant)
            allowed = is_docstring and isinstance(statement.value.value, str)
        else:
            allowed = (
                isinstance(statement, definitions)
                or is_type_checking_block(statement)
                or is_constant(statement)
            )
        if not allowed:
            lines.append(statement.lineno)
    return lines


# Rules about pins and packaging


def find_unequal_pins(hooks: dict, versions: dict[str, str]) -> list[str]:
    """Return the hooks that are not local, or not pinned to the lock's versions."""
    problems = []
    for repository in hooks["repos"]:
        if repository["repo"] != "local":
            problems.append(f"{repository['repo']} is not local")
            continue
        for hook in repository["hooks"]:
            pins = hook.get("additional_dependencies", [])
            if hook["language"] != "python" or not pins:
                problems.append(f"{hook['id']} has no pinned Python package")
            for pin in pins:
                name, _, version = pin.partition("==")
                if versions.get(name) != version:
                    problems.append(f"{hook['id']}: {pin}, but locked is {versions.get(name)}")
    return problems


def find_repeated_packages(packages: list[dict]) -> list[str]:
    """Return the names that a lock holds in more than one version."""
    counts = Counter(package["name"] for package in packages)
    return sorted(name for name, count in counts.items() if count > 1)


def find_packaging_problems(pyproject: dict) -> list[str]:
    """Return what keeps the wheel from being the package, its configs and their fewest needs."""
    problems = []
    packages = {entry["include"]: entry for entry in pyproject["tool"]["poetry"]["packages"]}
    if set(packages) != {"grapheme_to_phoneme", "configs", "web"}:
        problems.append(f"the wheel carries {sorted(packages)}")
    for name in ("configs", "web"):
        if packages.get(name, {}).get("to") != "grapheme_to_phoneme":
            problems.append(f"{name}/ does not go into the package")
    if pyproject["project"]["scripts"] != {"g2p": "grapheme_to_phoneme.commands:main"}:
        problems.append("the command g2p is not commands.main")
    base = {requirement_name(entry) for entry in pyproject["project"]["dependencies"]}
    if base != BASE_DEPENDENCIES:
        problems.append(f"the base install needs {sorted(base)}")
    return problems


# Each rule on snippets: what it must find, and what it must let pass


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (find_other_parser, f"import {PARSER}", "import parser_of_args"),
        (
            find_other_parser,
            f"def load():\n    from {PARSER} import ArgumentParser",
            f"{PARSER} = 1",
        ),
        (find_os_path, f"import os\n{OLD_PATHS}.join('one')", "import os\nos.environ.get('one')"),
        (find_os_path, "import os as system\nsystem.path", "import sys\nsys.path"),
        (find_os_path, "from os import path", "from os import environ"),
        (find_os_path, f"import {OLD_PATHS}", "import os"),
        (find_os_path, f"from {OLD_PATHS} import join", "from pathlib import Path"),
        (
            find_silenced_warnings,
            f"import warnings\nwarnings.{FILTER}('ignore')",
            "filter('ignore')",
        ),
        (find_silenced_warnings, f"{FILTER}(action='ignore')", f"{FILTER}('error')"),
        (
            find_silenced_warnings,
            "warnings.simplefilter('ignore', UserWarning)",
            "simplefilter('always')",
        ),
        (find_silenced_warnings, "catch_warnings(action='ignore')", "catch_warnings(record=True)"),
        (find_silenced_warnings, f"pytest.mark.{FILTER}('ignore::UserWarning')", "pass"),
        (find_short_names, "x = 1", "i = j = k = 1"),
        (find_short_names, "for n in []: pass", "for _ in []: pass"),
        (find_short_names, "[e for e in []]", "[entry for entry in []]"),
        (find_short_names, "lambda x: 1", "lambda word: 1"),
        (find_short_names, "def f(): pass", "def find(): pass"),
        (find_short_names, "import numpy as n", "import numpy as np"),
        (
            find_short_names,
            "try: pass\nexcept OSError as e: pass",
            "try: pass\nexcept OSError: pass",
        ),
        (find_short_names, "with open('one') as f: pass", "with open('one') as file: pass"),
        (find_short_names, "self.x = 1", "self.width = 1"),
        (find_short_names, "def train(x, *, y): pass", "def train(*words, **options): pass"),
        (find_short_names, "(n := 1)", "(count := 1)"),
        (find_module_level_code, "print('hello')", "def greet(): print('hello')"),
        (find_module_level_code, "counter = 0", "COUNTER = 0"),
        (find_module_level_code, "counter: int = 0", "_COUNTER: int = 0"),
        (find_module_level_code, "COUNTER += 1", "FIRST, SECOND = 1, 2"),
        (find_module_level_code, "first, SECOND = 1, 2", "__all__ = ['one']"),
        (find_module_level_code, "Phones = find_phones()", "PHONES = find_phones()"),
        (find_module_level_code, "phones = tuple[str, ...]", "Phones: TypeAlias = tuple"),
        (find_module_level_code, "for word in []: pass", "class Word: pass"),
        (find_module_level_code, "if True:\n    import one", "if TYPE_CHECKING:\n    import one"),
        (find_module_level_code, "import one\n'no docstring here'", "'a docstring'\nimport one"),
        (
            find_module_level_code,
            "if __name__ == '__main__':\n    main()\n    main()",
            "if __name__ == '__main__':\n    main()",
        ),
        (
            find_module_level_code,
            "if __name__ == '__main__':\n    answer = main()",
            "Phones = tuple[str, ...]",
        ),
        (
            find_module_level_code,
            "try:\n    import one\nexcept ImportError:\n    one = None",
            "import one",
        ),
    ],
)
def test_code_rules_tell_bad_from_good(
    rule: Callable[[ast.Module], list], bad: str, good: str
) -> None:
    assert rule(ast.parse(bad))
    assert not rule(ast.parse(good))


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (find_data_files, "data/raw/cmudict.dict", "data/raw/cmudict.dict.dvc"),
        (find_data_files, "model.ONNX", "grapheme_to_phoneme/packaging/onnx_export.py"),
        (find_bad_code_names, "tests/testTooling.py", "tests/test_tooling.py"),
        (find_bad_code_names, "My-Package/__init__.py", "package/__init__.py"),
        (find_bad_code_names, "scripts/set-up.sh", ".hidden-folder/set_up.sh"),
    ],
)
def test_file_rules_tell_bad_from_good(
    rule: Callable[[list[PurePosixPath]], list[str]], bad: str, good: str
) -> None:
    assert rule([PurePosixPath(bad)])
    assert not rule([PurePosixPath(good)])


def test_pin_rule_tells_bad_from_good() -> None:
    hook = {"id": "black", "language": "python", "additional_dependencies": ["black==1.0"]}
    local = {"repos": [{"repo": "local", "hooks": [hook]}]}
    assert find_unequal_pins(local, {"black": "1.0"}) == []
    assert find_unequal_pins(local, {"black": "1.1"})
    assert find_unequal_pins(local, {})
    assert find_unequal_pins({"repos": [{"repo": "a host", "hooks": []}]}, {})
    unpinned = {"id": "black", "language": "python"}
    assert find_unequal_pins({"repos": [{"repo": "local", "hooks": [unpinned]}]}, {})


def test_lock_rule_tells_bad_from_good() -> None:
    assert find_repeated_packages([{"name": "one"}, {"name": "two"}]) == []
    assert find_repeated_packages([{"name": "one"}, {"name": "two"}, {"name": "one"}]) == ["one"]


def test_packaging_rule_tells_bad_from_good() -> None:
    pyproject = load_pyproject()
    pyproject["project"]["dependencies"].append("torch==2.13.0")
    pyproject["project"]["scripts"]["other"] = "elsewhere:main"
    pyproject["tool"]["poetry"]["packages"].pop()
    assert len(find_packaging_problems(pyproject)) == 4


# The repository


@pytest.mark.parametrize(
    "rule",
    [
        find_other_parser,
        find_os_path,
        find_silenced_warnings,
        find_short_names,
        find_module_level_code,
    ],
)
def test_code_keeps_the_rule(rule: Callable[[ast.Module], list]) -> None:
    sources = list(python_sources())
    assert any(name.startswith("grapheme_to_phoneme/") for name, _ in sources)
    findings = {name: found for name, tree in sources if (found := rule(tree))}
    assert findings == {}


@pytest.mark.parametrize("rule", [find_data_files, find_bad_code_names])
def test_files_keep_the_rule(rule: Callable[[list[PurePosixPath]], list[str]]) -> None:
    paths = files_of_the_repository()
    assert PurePosixPath("pyproject.toml") in paths
    assert rule(paths) == []


def test_pytest_silences_no_warnings() -> None:
    filters = load_pyproject()["tool"]["pytest"]["ini_options"].get(FILTER, [])
    assert [entry for entry in filters if entry.startswith("ignore")] == []


def test_hooks_are_pinned_to_the_locked_versions() -> None:
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    versions = {package["name"]: package["version"] for package in locked_packages()}
    assert find_unequal_pins(hooks, versions) == []
    names = {hook["id"] for repository in hooks["repos"] for hook in repository["hooks"]}
    assert {"black", "isort", "flake8", "prettier", "trailing-whitespace"} <= names


def test_lock_holds_each_package_once_and_no_address() -> None:
    packages = locked_packages()
    assert find_repeated_packages(packages) == []
    # A source would be the address of one registry, which not everyone who installs can reach.
    assert [package["name"] for package in packages if "source" in package] == []


def test_lock_has_what_training_must_have() -> None:
    versions = {package["name"]: package["version"] for package in locked_packages()}
    train = load_pyproject()["project"]["optional-dependencies"]["train"]
    # Another release would lock no build that runs everywhere the project is checked.
    assert f"torch=={versions['torch']}" in train
    # 2.6.2 and 2.6.3 were malicious.
    assert tuple(int(part) for part in versions["lightning"].split(".")) >= (2, 6, 6)


def test_formatters_agree_on_the_line_length() -> None:
    tools = load_pyproject()["tool"]
    prettier = yaml.safe_load((REPOSITORY / ".prettierrc.yaml").read_text(encoding="utf-8"))
    lengths = {
        tools["black"]["line-length"],
        tools["isort"]["line_length"],
        tools["flake8"]["max-line-length"],
        prettier["printWidth"],
    }
    assert len(lengths) == 1


@pytest.mark.parametrize(
    ("folder", "suffixes"),
    [("configs", {".py", ".yaml"}), ("web", {".css", ".html", ".js", ".py", ".svg"})],
)
def test_wheel_carries_the_package_its_configs_and_its_page(
    folder: str, suffixes: set[str]
) -> None:
    assert find_packaging_problems(load_pyproject()) == []
    assert (REPOSITORY / "grapheme_to_phoneme" / "py.typed").is_file()
    files = [path for path in files_of_the_repository() if path.is_relative_to(folder)]
    assert {path.suffix for path in files} == suffixes
