"""Turning the imperative of a docstring ("Return the …") into third person ("returns the …")."""

from __future__ import annotations

_VERBS = """
accept acquire add adjust align allow analyze append apply assert assign attach attempt bind block broadcast
build calculate call cancel change check choose clean clear clip close collect combine compare compile
compute concatenate configure connect construct consume convert copy count create declare decode decorate
decrease dedent define delegate delete derive describe destroy detach detect determine disable discard
disconnect dispatch display divide download drain draw drop dump eliminate embed emit enable encapsulate
encode encrypt ensure enter enumerate escape establish estimate evaluate exclude execute exit expand export
express extend extract fail fetch fill filter find finish fit fix flatten flush force format forward free
generate get give guess handle hash highlight hold honor identify ignore implement import include increase
increment indent indicate infer inform inherit initialize insert inspect install instantiate instruct
interpret invalidate invert invoke isolate iterate join keep kill launch limit list listen load locate lock
log look make manage map mark match merge migrate mock modify move multiply normalise normalize notify
obtain open order override overwrite pack pad parse pass pause perform permute pick place plot poll pop
prefer prepare prepend prevent print process produce propagate provide prune publish purge push put query
quote raise read rebind rebuild receive recompute reconnect record redirect redraw reduce refresh register
reject relax release reload remove rename render repair repeat replace represent request rerun reset reshape
resize resolve respond restore resume retrieve retry return reverse revert rewind rewrite roll rotate round
run sample sanitize save scan schedule search seek select send separate serialize set setup shift shorten
show shrink shuffle shutdown signal simplify skip sleep slice solve sort specialize specify split
standardize start stop store strip submit subtract suppress suspend swap switch synchronize take tell
terminate test toggle tokenize track transform translate transpose trigger trim truncate try tune unbind
undo unescape unlock unmount unpack unquote unregister unset unwrap unzip update upload use validate verify
visit wait walk warn wrap write yield zip
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
