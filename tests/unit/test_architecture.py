"""The rules of the code base that linters do not check."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "amplifier_module_provider_vllm"
MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")
}

MAY_IMPORT_OPENAI = {
    "_endpoint",
    "_chat.endpoint",
    "_completions.endpoint",
    "_wire.http",
    "_wire.pool",
    "_wire.client",
    "_errors",
    "_refusals",
    "_server_text",
    "_secrets",
    "_provider",
}
PUBLIC = "rl"
"""The inner package that users import, and the package itself does not."""
MAY_USE_GETATTR = {"_turn"}
ENDPOINT_FOLDERS = ("_chat.", "_completions.", "_responses.")
SPELLS_OTHER_FORMATS = {"_chat_messages", "_tokenize", "_message_shapes", "rl.adapters", "rl.transcript"}
"""The messages of a chat, the counting endpoints, what other providers store in a session, and what trainers read."""
WIRE_KEYS = {
    "call_id", "choices", "delta", "extra_body", "function_call_output", "image_url", "incomplete_details", "input",
    "input_image", "input_text", "instructions", "max_completion_tokens", "messages", "output", "output_text",
    "previous_response_id", "reasoning_text", "role",
}  # fmt: skip
"""Keys of request and reply bodies that a session does not use."""
SHARED_KEYS = {
    "max_output_tokens": {
        "_budget",
        "_config_reading",
        "_keywords",
        "_observability",
        "_options",
        "_provider",
        "_turn",
    },
    "parallel_tool_calls": {"_options"},
    "tool_choice": {"_options"},
}
"""Keys of both sides, and the modules where they are Amplifier's: keywords, config keys and payloads."""
MOST_LINES_OF_A_MODULE = 300
MOST_LINES_OF_A_FUNCTION = 40
DEEPEST_BLOCK = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match,
)  # fmt: skip

every_module = pytest.mark.parametrize("name", sorted(MODULES))


@every_module
def test_only_the_edges_import_openai(name: str) -> None:
    roots = {imported.partition(".")[0] for imported in imports(tree_of(name))}

    assert "openai" not in roots or name in MAY_IMPORT_OPENAI


@every_module
def test_no_module_uses_hasattr_or_getattr(name: str) -> None:
    named = {node.id for node in ast.walk(tree_of(name)) if isinstance(node, ast.Name)}

    assert named & {"hasattr", "getattr"} <= ({"getattr"} if name in MAY_USE_GETATTR else set())


@every_module
def test_no_module_imports_the_package_itself(name: str) -> None:
    """The package's own `__init__` is the top layer, which the import contracts cannot name."""
    siblings = {module.rpartition(".")[2] for module in MODULES} | {path.parent.name for path in MODULES.values()}
    nameless = [node for node in ast.walk(tree_of(name)) if isinstance(node, ast.ImportFrom) and node.module is None]
    taken = {alias.name for node in nameless for alias in node.names}

    assert taken <= siblings
    assert PACKAGE.name not in imports(tree_of(name))


def test_inner_packages_have_an_empty_init() -> None:
    """Names re-exported there would belong to no layer."""
    inner = [path for path in PACKAGE.rglob("*/__init__.py") if path.parent not in (PACKAGE, PACKAGE / PUBLIC)]

    assert [path for path in inner if statements_besides_docstring(path)] == []


@every_module
def test_a_module_has_at_most_300_lines(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= MOST_LINES_OF_A_MODULE


@every_module
def test_a_function_has_at_most_40_lines(name: str) -> None:
    lengths = {function.name: 1 + (function.end_lineno or 0) - function.lineno for function in functions(tree_of(name))}

    assert {function: length for function, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == {}


@every_module
def test_no_block_is_nested_deeper_than_three(name: str) -> None:
    depths = {function.name: depth(function) for function in functions(tree_of(name))}

    assert {function: deep for function, deep in depths.items() if deep > DEEPEST_BLOCK} == {}


@every_module
def test_no_handler_catches_every_exception(name: str) -> None:
    handlers = [node for node in ast.walk(tree_of(name)) if isinstance(node, ast.ExceptHandler)]

    assert [handler.lineno for handler in handlers if catches_anything(handler)] == []


@every_module
def test_a_module_opens_with_one_sentence(name: str) -> None:
    tree = tree_of(name)
    said = ast.get_docstring(tree) or ""

    assert said.rstrip().endswith(".") or not tree.body


@every_module
def test_only_an_endpoint_knows_the_keys_of_its_bodies(name: str) -> None:
    literals = {node.value for node in ast.walk(tree_of(name)) if isinstance(node, ast.Constant)}

    spelled = {key for key in WIRE_KEYS & literals if not name.startswith(ENDPOINT_FOLDERS)}
    shared = {key for key, modules in SHARED_KEYS.items() if key in literals and name not in modules}

    assert name in SPELLS_OTHER_FORMATS or spelled == set()
    assert name.startswith(ENDPOINT_FOLDERS) or shared == set()


def test_the_depth_counts_nested_blocks() -> None:
    (function,) = functions(ast.parse(
        "def deep():\n"
        "    for a in b:\n"
        "        if a:\n"
        "            with d:\n"
        "                match e:\n"
        "                    case 1:\n"
        "                        pass\n"
    ))  # fmt: skip

    assert depth(function) == 4


def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(), filename=str(MODULES[name]))


def imports(tree: ast.Module) -> set[str]:
    """The absolute imports; relative ones stay within the package."""
    nodes = list(ast.walk(tree))
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return whole | parts


def statements_besides_docstring(path: Path) -> list[ast.stmt]:
    return [statement for statement in ast.parse(path.read_text()).body if not isinstance(statement, ast.Expr)]


def functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def depth(node: ast.AST) -> int:
    """The number of blocks around the innermost statement. A chain of `elif` counts as one block, like a `match`."""
    return max((depth(child) + isinstance(child, BLOCKS) for child in ast.iter_child_nodes(node)), default=0)


def catches_anything(handler: ast.ExceptHandler) -> bool:
    match handler.type:
        case None:
            return True
        case ast.Tuple(elts=kinds):
            return any(is_any_exception(kind) for kind in kinds)
        case kind:
            return is_any_exception(kind)


def is_any_exception(kind: ast.expr) -> bool:
    return isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}
