"""Small changes to Python source, chosen for what they would do to secrecy: each yields one mutant.

A guard that never fires, a comparison that is one off, a random source that is a constant, noise that is not added, a
part left out of what is hashed or signed, a call that does not happen. Left alone are texts of errors, annotations,
figures of time and bytes, and code outside functions: constants, fields, defaults. A condition is not negated: tests
that notice that it never holds, or always holds, notice that too.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One changed source. `where` is its function, `line` that of the change in the original, counted from 1."""

    file: str
    where: str
    line: int
    before: str
    after: str
    source: str
    copies: int = 1  # the same change for the n-th time in one function
    name: str = ""  # of a hand-written one

    @property
    def identity(self) -> str:
        """What a review refers to; it does not change when lines move."""
        if self.name:
            return f"{self.file}: {self.name}"
        again = f" ({self.copies})" if self.copies > 1 else ""
        return f"{self.file}: {self.where}: {self.before} → {self.after}{again}"


# Constants in the place of secrets.
_CONSTANT_KEY = "bytes([7]) * 32"
_RANDOM_SOURCES = {
    "secrets.randbelow": "1",
    "secrets.randbits": "7",
    "secrets.token_hex": "'00' * 16",
    "secrets.token_bytes": _CONSTANT_KEY,
    "os.urandom": _CONSTANT_KEY,
    "X25519PrivateKey.generate": f"X25519PrivateKey.from_private_bytes({_CONSTANT_KEY})",
    "Ed25519PrivateKey.generate": f"Ed25519PrivateKey.from_private_bytes({_CONSTANT_KEY})",
    "secrets.SystemRandom": "__import__('random').Random(7)",
    "np.random.default_rng": "np.random.default_rng(7)",
}
_NEIGHBOUR: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OTHER_SET: dict[type[ast.operator], type[ast.operator]] = {ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr}
_OTHER_FUNCTION = {"any": "all", "all": "any"}
_MESSAGES = re.compile(r"(.*Error|stderr\.write|laps\.lap|super\(\)\.__init__)$")
_ROUNDING = 1e-5  # smaller numbers are tolerances for rounding
_TEXT_KEYWORDS = {"description", "remedy", "bytes_up", "bytes_down", "vector_bytes"}
_OPPOSITES = (ast.Eq, ast.NotEq, ast.In, ast.NotIn, ast.Is, ast.IsNot)


def mutants_of(file: str, source: str, functions: str = ".*") -> list[Mutant]:
    """Every mutant of the functions of a file (`Class.method`) whose names fit `functions`."""
    wanted, offsets, found = re.compile(functions), _line_offsets(source), []
    data, seen = source.encode(), Counter[tuple[str, str, str]]()
    for node, where, after in _changes(ast.parse(source)):
        if not wanted.fullmatch(where):
            continue
        begin = offsets[node.lineno - 1] + node.col_offset
        assert node.end_lineno is not None and node.end_col_offset is not None, "parsed from text"
        end = offsets[node.end_lineno - 1] + node.end_col_offset
        changed = (data[:begin] + after.encode() + data[end:]).decode()
        before = ast.unparse(node)
        seen[where, before, after] += 1
        found.append(Mutant(file, where, node.lineno, before, after, changed, seen[where, before, after]))
    return found


def substitute(file: str, source: str, name: str, old: str, new: str) -> Mutant:
    """A hand-written mutant; ValueError if `old` is not in the source exactly once."""
    if source.count(old) != 1:
        raise ValueError(f"the mutant '{name}' replaces {old!r}, which stands {source.count(old)} times in {file}")
    line = source[: source.index(old)].count("\n") + 1
    return Mutant(file, "", line, old, new, source.replace(old, new), name=name)


def _line_offsets(source: str) -> list[int]:
    offsets = [0]
    for line in source.encode().splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    return offsets


def _changes(node: ast.AST, where: str = "") -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    """(node, its function, the text that replaces it) of every change to functions below `node`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            name = f"{where}.{child.name}".lstrip(".")
            if isinstance(child, ast.ClassDef):
                yield from _changes(child, name)
            else:
                yield from _changes_within(child, name, [child, *child.body])


def _changes_within(
    node: ast.AST, where: str, parts: Sequence[ast.AST]
) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    """The changes of `parts` of a function, and of what is in them."""
    for part in parts:
        turned_round = isinstance(node, ast.If | ast.IfExp) and part is node.test and _turns_round(part)
        if isinstance(part, ast.stmt | ast.expr) and not turned_round:
            texts = dict.fromkeys(_in_place_of(part))
            yield from ((part, where, text) for text in texts if text != ast.unparse(part))
        if isinstance(part, ast.If):
            yield from ((part.test, where, text) for text in _constant_conditions(part))
        if part is not node and not _is_text(part):
            inner = part.body if isinstance(part, ast.FunctionDef) else list(_children(part))
            yield from _changes_within(part, where, inner)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name != "annotation":
            yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, ast.AST))


def _is_text(node: ast.AST) -> bool:
    """Whether only people read it: errors, messages, docstrings, formatted strings, times and bytes."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or _is_text(node.value)
    if isinstance(node, ast.keyword) and node.arg in _TEXT_KEYWORDS:
        return True
    return isinstance(node, ast.Call) and bool(_MESSAGES.search(ast.unparse(node.func)))


def _turns_round(test: ast.AST) -> bool:
    """Whether the one change of a condition would be its opposite."""
    if isinstance(test, ast.Compare):
        return len(test.ops) == 1 and isinstance(test.ops[0], _OPPOSITES)
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _in_place_of(node: ast.stmt | ast.expr) -> Iterator[str]:
    """Texts that may replace `node`: complete by themselves, with the same indentation."""
    match node:
        case ast.AugAssign() | ast.Expr(value=ast.Call()) if not _is_text(node):
            yield "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "pass"
        case ast.FunctionDef(returns=ast.Constant(value=None)) if not node.decorator_list and node.name != "__init__":
            yield _with(node, body=[ast.Pass()]).replace("\n", " ")
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                ops = list(node.ops)
                ops[place] = _NEIGHBOUR[type(operator)]()
                yield f"({_with(node, ops=ops)})"
        case ast.BoolOp():
            for place in range(len(node.values)):
                kept = [value for i, value in enumerate(node.values) if i != place]
                yield f"({ast.unparse(kept[0] if len(kept) == 1 else _copy(node, values=kept))})"
        case ast.UnaryOp(op=ast.Not()):
            yield f"({ast.unparse(node.operand)})"
        case ast.BinOp():
            if type(node.op) in _OTHER_SET:
                yield f"({_with(node, op=_OTHER_SET[type(node.op)]())})"
            yield f"({ast.unparse(node.left)})"
        case ast.IfExp():
            yield f"({ast.unparse(node.body)})"
            yield f"({ast.unparse(node.orelse)})"
        case ast.Call():
            yield from _in_place_of_call(node)
        case ast.Set(elts=parts) | ast.List(elts=parts, ctx=ast.Load()) | ast.Dict(values=parts) if len(parts) > 1:
            yield from _one_less(node)
        case ast.Constant(value=bool()):
            yield str(not node.value)
        case ast.Constant(value=float(number)) if not 0 < number <= _ROUNDING:
            yield repr(2 * number or 1.0)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            for place, loop in enumerate(node.generators):
                if loop.ifs:
                    loops = [_copy(each, ifs=[]) if i == place else each for i, each in enumerate(node.generators)]
                    yield _with(node, generators=loops)


def _constant_conditions(guard: ast.If) -> Iterator[str]:
    """A guard that never fires and, where it does more than refuse, one that always does."""
    test, refuses = guard.test, isinstance(guard.body[-1], ast.Raise)
    if any(isinstance(each, ast.NamedExpr) for each in ast.walk(test)):
        yield f"(({ast.unparse(test)}) and False)"  # the name is bound all the same
    else:
        yield "False"
        if not refuses:
            yield "True"


def _in_place_of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    if name in _RANDOM_SOURCES:
        yield f"({_RANDOM_SOURCES[name]})"
    if name in _OTHER_FUNCTION:
        yield _with(node, func=ast.Name(_OTHER_FUNCTION[name], ast.Load()))
    if name in ("min", "max") and len(node.args) > 1:
        for each in node.args:
            yield f"({ast.unparse(each)})"
    if name.endswith("noise_generator"):
        yield _with(node, args=[ast.Constant(7), *node.args[1:]])
        for place in range(1, len(node.args)):
            yield _with(node, args=[each for i, each in enumerate(node.args) if i != place])
    if name.endswith("seeding.generator"):
        yield _with(node, args=node.args[:1])


def _one_less(node: ast.Set | ast.List | ast.Dict) -> Iterator[str]:
    for place in range(len(node.keys if isinstance(node, ast.Dict) else node.elts)):
        fields = ("keys", "values") if isinstance(node, ast.Dict) else ("elts",)
        yield _with(node, **{f: [each for i, each in enumerate(getattr(node, f)) if i != place] for f in fields})


def _copy(node: ast.AST, **changes: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _with(node: ast.AST, **changes: object) -> str:
    return ast.unparse(_copy(node, **changes))
