"""The calculator tool: the text of one expression in, the text of its value out.

Two forms are understood: arithmetic over decimal numbers (+ - * / and parentheses) and
``'word'.count('x')``. Arithmetic is exact (fractions), bounded in length and magnitude, and safe in
any thread: the syntax tree is walked by hand, so nothing is ever executed.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

MAX_CHARACTERS = 200  # also bounds the number of nodes and the depth of the tree
MAX_MAGNITUDE = 10**15
DECIMALS = 6

_ARITHMETIC = re.compile(r"[0-9+\-*/(). ]+")
_COUNT = re.compile(r"""(['"])(?P<text>[^'"\\]*)\1\.count\((['"])(?P<part>[^'"\\]+)\3\)""")
_BINARY: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class CalculatorError(ValueError):
    """The expression has no value; the message is short enough to show to the model."""


def calculate(expression: str) -> str:
    """The value of ``expression``: an integer where exact, else at most 6 decimals.

    Commas are removed. Raises CalculatorError for everything that is not one of the two forms, too
    long, too large, or a division by zero; never any other exception.
    """
    text = expression.strip()
    if not text or len(text) > MAX_CHARACTERS:
        raise CalculatorError("empty expression" if not text else "expression too long")
    if count := _COUNT.fullmatch(text):
        return str(count["text"].count(count["part"]))
    text = text.replace(",", "")
    if not _ARITHMETIC.fullmatch(text):
        raise CalculatorError("not an arithmetic expression")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise CalculatorError("invalid syntax") from None
    return _format(_value(tree.body))


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number):
            value = Fraction(repr(number))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            value = _value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            value = _apply(op, _value(left), _value(right))
        case _:
            raise CalculatorError("unsupported operation")
    if abs(value) > MAX_MAGNITUDE:
        raise CalculatorError("number too large")
    return value


def _apply(op: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    if isinstance(op, ast.Div) and right == 0:
        raise CalculatorError("division by zero")
    return _BINARY[type(op)](left, right)


def _format(value: Fraction) -> str:
    rounded = round(value, DECIMALS)
    return format(Decimal(rounded.numerator) / Decimal(rounded.denominator), "f")
