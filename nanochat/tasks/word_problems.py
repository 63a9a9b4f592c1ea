"""Templates of arithmetic problems: which expression, in which words.

Placeholders: {a} {b} {c} operands, {name} {other} people, {things} what is counted, {boxes} containers.
Two-step templates mention their numbers in varying order, so copying left to right is not enough.
"""

from __future__ import annotations

NAMES = (
    "Tom", "Mia", "Ben", "Anna", "Leo", "Sara", "Max", "Lily", "Sam", "Nina", "Paul", "Emma",
    "Jack", "Rosa", "Omar", "Kate", "Ivan", "Lucy", "Dan", "Eva",
)  # fmt: skip
THINGS = (
    "apples", "pens", "books", "coins", "cards", "stamps", "eggs", "cups", "shells", "stickers",
    "marbles", "nuts", "balls", "keys", "beads", "plums",
)  # fmt: skip
BOXES = ("boxes", "bags", "shelves", "rows", "baskets", "crates")

PLAIN = (
    "What is {e}?",
    "What is {e}?",
    "Calculate {e}.",
    "How much is {e}?",
    "Compute {e}.",
    "What is {w}?",
    "How much is {w}?",
    "{e} = ?",
)

ONE_STEP: dict[str, tuple[str, ...]] = {
    "a+b": (
        "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
        "There are {a} {things} in one box and {b} in another. How many {things} are there in total?",
        "{name} has {a} {things}. {other} has {b}. How many do they have together?",
        "A shop sold {a} {things} on Monday and {b} on Tuesday. How many did it sell?",
        "{name} read {a} pages yesterday and {b} pages today. How many pages is that?",
    ),
    "a-b": (
        "{name} has {a} {things} and gives away {b}. How many {things} are left?",
        "A shop had {a} {things} and sold {b}. How many are left?",
        "{name} had {a} {things} and lost {b} of them. How many does {name} still have?",
        "{name} has {a} {things} and {other} has {b}. How many more does {name} have?",
        "A book has {a} pages. {name} has read {b}. How many pages remain?",
    ),
    "a*b": (
        "There are {a} {boxes} with {b} {things} each. How many {things} are there?",
        "{name} buys {a} {boxes} of {b} {things}. How many {things} is that?",
        "One of the {things} costs {b} dollars. What do {a} cost?",
        "{name} reads {b} pages a day. How many pages in {a} days?",
    ),
    "a/b": (
        "{a} {things} are shared equally by {b} children. How many does each get?",
        "{name} puts {a} {things} into {b} equal {boxes}. How many are in each?",
        "{b} tickets cost {a} dollars. What does one cost?",
        "{name} read {a} pages in {b} days, the same each day. How many pages a day?",
    ),
}

TWO_STEP: dict[str, tuple[str, ...]] = {
    "a*b+c": (
        "There are {a} {boxes} with {b} {things} each, and {c} loose {things}. How many {things} in all?",
        "{name} has {c} {things} and buys {a} {boxes} of {b}. How many {things} does {name} have now?",
        "{name} pays {c} dollars for a bag and {b} dollars for each of {a} {things}. What is the total?",
        "What is {a} * {b} + {c}?",
    ),
    "a*b-c": (
        "{name} has {a} {boxes} of {b} {things} and gives away {c}. How many {things} are left?",
        "{name} lost {c} {things}. Before, there were {a} {boxes} of {b}. How many are left?",
        "A shop gets {a} {boxes} with {b} {things} each and sells {c}. How many remain?",
        "What is {a} * {b} - {c}?",
    ),
    "(a+b)*c": (
        "{name} picks {a} {things} in the morning and {b} in the evening, for {c} days. How many in all?",
        "Each of {c} {boxes} holds {a} red and {b} blue {things}. How many {things} are there?",
        "A pen costs {a} cents and a card {b} cents. {name} buys {c} of both. What is the total?",
        "What is ({a} + {b}) * {c}?",
    ),
    "(a-b)*c": (
        "Each of {c} {boxes} had {a} {things}. {b} were taken from each. How many are left?",
        "{name} earns {a} dollars a day and spends {b} of it. How much is saved in {c} days?",
        "A shop buys {things} for {b} cents and sells them for {a}. What does it gain on {c}?",
        "What is ({a} - {b}) * {c}?",
    ),
    "a+b-c": (
        "{name} had {a} {things}, got {b} more and gave {c} to {other}. How many are left?",
        "{name} gave away {c} of {a} old and {b} new {things}. How many does {name} still have?",
        "A bus had {a} people. {b} got on and {c} got off. How many are on it now?",
        "What is {a} + {b} - {c}?",
    ),
    "a-b-c": (
        "{name} had {a} {things}, gave {b} to {other} and lost {c}. How many are left?",
        "A shop sold {b} {things} on Monday and {c} on Tuesday. It had {a}. How many are left?",
        "A book has {a} pages. {name} read {b}, then {c}. How many pages remain?",
        "What is {a} - {b} - {c}?",
    ),
    "a-b*c": (
        "{name} has {a} dollars and buys {b} {things} for {c} dollars each. How much is left?",
        "{b} children take {c} {things} each. There were {a}. How many are left?",
        "A tank holds {a} liters and loses {c} a day. How much is left after {b} days?",
        "What is {a} - {b} * {c}?",
    ),
    "(a+b)/c": (
        "{name} has {a} {things} and {other} has {b}. They fill {c} equal {boxes}. How many in each?",
        "{c} children share {a} red and {b} blue {things} equally. How many does each get?",
        "What is ({a} + {b}) / {c}?",
    ),
    "a/b+c": (
        "{a} {things} are shared by {b} children. {name} is one and had {c} before. How many has {name} now?",
        "{name} has {c} {things} and gets an equal part of {a}, shared by {b}. How many is that?",
        "What is {a} / {b} + {c}?",
    ),
}
