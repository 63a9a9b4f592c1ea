"""Turning the imperative of a docstring ("Return the …") into third person ("returns the …")."""

from __future__ import annotations

_VERBS = """
accept acquire add adjust align allow analyze append apply assert assign attach attempt bind block build
calculate call cancel change check choose clean clear clip close collect combine compare compile compute
concatenate configure connect construct consume convert copy count create decode decorate decrease define
delete describe destroy detect determine disable discard dispatch display divide draw drop dump emit enable
encode encrypt ensure enter escape estimate evaluate exclude execute exit expand export extend extract fail
fetch fill filter find finish fit flatten flush force format forward free generate get give guess handle
hash hold identify ignore implement import include increase increment indicate infer inherit initialize
insert inspect install instantiate interpret invert invoke iterate join keep kill launch limit list listen
load locate lock log look make manage map mark match merge modify move multiply normalize notify obtain open
order override overwrite pack pad parse pass perform permute pick place plot pop prepare prevent print
process produce provide push put query raise read rebuild receive record reduce refresh register release
reload remove rename render repeat replace represent request reset resolve restore retrieve return reverse
rotate round run sample save scan schedule search select send serialize set setup shift show shuffle
shutdown signal simplify skip sleep slice solve sort specify split start stop store strip submit subtract
suspend swap switch take test transform translate truncate try undo unpack unregister update upload use
validate verify visit wait walk warn wrap write yield
"""


def _conjugate(verb: str) -> str:
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


_THIRD_PERSON = {verb: _conjugate(verb) for verb in _VERBS.split()}
_CONJUGATED = frozenset(_THIRD_PERSON.values())


def third_person(word: str) -> str | None:
    """``Return`` or ``Returns`` -> ``returns``; None where ``word`` is no verb of the list."""
    word = word.lower()
    return word if word in _CONJUGATED else _THIRD_PERSON.get(word)
