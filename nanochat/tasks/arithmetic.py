"""Arithmetic answered through the calculator: one-step ``easy`` and two-step ``hard`` problems.

Train and test share templates and never an operand pair (``operands.py``). An answer counts only if
the model itself called the calculator, ended by itself, and its final number is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Literal

from nanochat.engine.calculator import calculate
from nanochat.tasks.operands import is_test_pair
from nanochat.tasks.task import Answer, Example, Grade, Split, dialogue, tool_answer
from nanochat.tasks.word_problems import BOXES, NAMES, ONE_STEP, PLAIN, THINGS, TWO_STEP

Level = Literal["easy", "hard"]
Operands = dict[str, int]

PLAIN_SHARE = 0.5  # of the one-step problems: the bare question, without a story
WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Arithmetic:
    """Problems of one level; see the module's docstring."""

    def __init__(self, level: Level) -> None:
        self.name = f"arithmetic/{level}"
        self._draw = DRAW_ONE if level == "easy" else DRAW_TWO
        self._ask = _ask_one if level == "easy" else _ask_two

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """``n`` problems; test problems are distinct, train problems may repeat in a long stream."""
        rng = Random(f"{self.name} {split} {seed}")
        found: list[Example] = []
        seen: set[str] = set()
        while len(found) < n:
            form = rng.choice(sorted(self._draw))
            operands = _operands(self._draw[form], split, rng)
            expression = _fill(form, operands)
            if split == "test" and expression in seen:
                continue
            seen.add(expression)
            question, final = self._ask(form, operands, rng)
            output = calculate(expression)
            answer = tool_answer(expression, output, final.format(output=output))
            found.append(
                Example(f"{self.name}/{split}/{len(found)}", dialogue(question, answer), reference=output)
            )
        return found

    def grade(self, example: Example, answer: Answer) -> Grade:
        """Right final number, reached through a working tool call, and an end of turn."""
        number = final_number(answer.text)
        called = any(call.ok for call in answer.tool_calls)
        correct = answer.ended and called and number == example.reference
        return Grade(correct, float(correct), {"number": number, "called": called, "ended": answer.ended})


def final_number(text: str) -> str | None:
    """The last number after the last ``=``, else the last number of the text; commas removed."""
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    numbers = _NUMBER.findall(text.rpartition("=")[2]) or _NUMBER.findall(text)
    return numbers[-1] if numbers else None


def _operands(draw: Callable[[Random], tuple[int, ...]], split: Split, rng: Random) -> Operands:
    """Draw until the split's rule holds: train has no test pair at all, test has only test pairs
    side by side."""
    while True:
        values = draw(rng)
        adjacent = (is_test_pair(a, b) for a, b in pairwise(values))
        if split == "test":
            fits = all(adjacent)
        else:
            fits = not any(adjacent) and not is_test_pair(values[0], values[-1])
        if fits:
            return dict(zip("abc", values, strict=False))


def _fill(form: str, operands: Operands) -> str:
    return re.sub("[abc]", lambda match: str(operands[match[0]]), form)


def _ask_one(form: str, operands: Operands, rng: Random) -> tuple[str, str]:
    """(question, final sentence with an {output} placeholder) of a one-step problem."""
    if rng.random() >= PLAIN_SHARE:
        return _tell(rng.choice(ONE_STEP[form]), operands, rng), "The answer is {output}."
    a, op, b = operands["a"], form[1], operands["b"]
    spaced = f"{a} {op} {b}"
    question = rng.choice(PLAIN).format(e=spaced, w=f"{a} {WORDS[op]} {b}")
    return question, spaced + " = {output}."


def _ask_two(form: str, operands: Operands, rng: Random) -> tuple[str, str]:
    return _tell(rng.choice(TWO_STEP[form]), operands, rng), "The answer is {output}."


def _tell(template: str, operands: Operands, rng: Random) -> str:
    name, other = rng.sample(NAMES, 2)
    return template.format(
        **operands, name=name, other=other, things=rng.choice(THINGS), boxes=rng.choice(BOXES)
    )


def _few(rng: Random) -> int:
    return rng.randint(2, 12)


def _some(rng: Random) -> int:
    return rng.randint(2, 60)


def _many(rng: Random) -> int:
    return rng.randint(2, 10 ** rng.randint(2, 3) - 1)


def _difference(rng: Random) -> tuple[int, int]:
    a = rng.randint(12, 10 ** rng.randint(2, 3) - 1)
    return a, rng.randint(2, a - 1)


def _quotient(rng: Random) -> tuple[int, int]:
    divisor = _few(rng)
    return divisor * rng.randint(2, 99), divisor


def _product_less(rng: Random) -> tuple[int, int, int]:
    a, b = _few(rng), rng.randint(3, 60)
    return a, b, rng.randint(2, a * b - 1)


def _sum_less(rng: Random) -> tuple[int, int, int]:
    a, b = rng.randint(2, 400), rng.randint(2, 400)
    return a, b, rng.randint(2, a + b - 1)


def _twice_less(rng: Random) -> tuple[int, int, int]:
    b, c = rng.randint(2, 200), rng.randint(2, 200)
    return b + c + rng.randint(1, 400), b, c


def _less_product(rng: Random) -> tuple[int, int, int]:
    b, c = _few(rng), rng.randint(2, 40)
    return b * c + rng.randint(1, 300), b, c


def _sum_shared(rng: Random) -> tuple[int, int, int]:
    parts = _few(rng)
    total = parts * rng.randint(3, 60)
    a = rng.randint(2, total - 2)
    return a, total - a, parts


DRAW_ONE: dict[str, Callable[[Random], tuple[int, ...]]] = {
    "a+b": lambda rng: (_many(rng), _many(rng)),
    "a-b": _difference,
    "a*b": lambda rng: (_few(rng), rng.randint(2, 99)),
    "a/b": _quotient,
}
DRAW_TWO: dict[str, Callable[[Random], tuple[int, ...]]] = {
    "a*b+c": lambda rng: (_few(rng), _some(rng), rng.randint(2, 300)),
    "a*b-c": _product_less,
    "(a+b)*c": lambda rng: (rng.randint(2, 200), rng.randint(2, 200), _few(rng)),
    "(a-b)*c": lambda rng: (*_difference(rng), _few(rng)),
    "a+b-c": _sum_less,
    "a-b-c": _twice_less,
    "a-b*c": _less_product,
    "(a+b)/c": _sum_shared,
    "a/b+c": lambda rng: (*_quotient(rng), _some(rng)),
}
