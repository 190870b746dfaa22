"""A cell of the judge's details in, a plain Python value out; what makes no sense is None."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from typing import Any

WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


def parse(value: Any) -> Any:
    """Open a cell: a dict or a list, or one of these as JSON or as Python's repr; else None.

    Example:
        >>> parse("{'a_scores': 2.0, 'score': nan}")
        {'a_scores': 2.0, 'score': None}
    """
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list):
        return value
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return _literal(value.strip())


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(_Literals().visit(ast.parse(text, mode="eval")))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def parse_mapping(value: Any) -> dict[str, Any]:
    """Open a cell that should hold a dict; anything else: empty."""
    parsed = parse(value)
    return parsed if isinstance(parsed, dict) else {}


def number(value: Any) -> float | None:
    """Return a finite number as float; anything else is None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def loose_number(value: Any) -> float | None:
    """Return a number that may also be a bool or written as text.

    Example:
        >>> loose_number(" 4 "), loose_number(True), loose_number("no"), loose_number("good")
        (4.0, 1.0, 0.0, None)
    """
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return number(value)
    word = value.strip().lower()
    try:
        return WORDS[word] if word in WORDS else number(float(word))
    except ValueError:
        return None


def text(value: Any) -> str | None:
    """Return a text that says something; anything else is None."""
    return value if isinstance(value, str) and value.strip() else None


class _Literals(ast.NodeTransformer):
    """Make literals of what repr writes for numbers: `nan`, `inf`, `np.float64(1.0)`."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(None) if node.id in ("nan", "inf") else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        operand = self.visit(node.operand)
        unreal = isinstance(operand, ast.Constant) and operand.value is None
        return operand if unreal else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        return self.visit(node.args[0]) if len(node.args) == 1 else node
