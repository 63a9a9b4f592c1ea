"""Which artifacts expire by rules that a person gives, and how they do while others write.

To expire is to lose the fingerprint's pointer and the versions. The manifest is made young before that,
and what is young is kept with its files and all that it was made from: whoever uses the artifact at that
moment has the grace period to finish.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.errors import UsageError
from artifacts.inventory import Holding, Inventory, Key
from artifacts.lease import GC, Lease
from artifacts.names import Pointer
from artifacts.pins import pins
from artifacts.ref import LATEST, ArtifactRef

if TYPE_CHECKING:
    from artifacts.store import Store

DAY_S = 24 * 3600.0
_AT_ONCE = 50


@dataclass(frozen=True)
class Rules:
    """A version stays if any of the given rules says so; without a rule all do.

    ``keep_last``: the newest so many of each name. ``keep_days``: what was stored in the last so many days,
    by the storage's own clock. ``only``: artifacts of other kinds all stay.
    """

    keep_last: int | None = None
    keep_days: float | None = None
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.keep_last is not None and self.keep_last < 1:
            raise UsageError(f"keep the last {self.keep_last}", "keep at least 1 version of each name")
        if self.keep_days is not None and not self.keep_days >= 0:
            raise UsageError(f"keep {self.keep_days} days", "give 0 or more days")
        if self.only and not self:
            raise UsageError("only some kinds, but no rule", "say what to keep: --keep-last or --keep-days")

    def __bool__(self) -> bool:
        return self.keep_last is not None or self.keep_days is not None


@dataclass(frozen=True)
class Marks:
    """What people and programs point to: aliased and pinned versions, and all that were ever ``latest``."""

    wanted: frozenset[ArtifactRef]
    published: frozenset[ArtifactRef]


def read_marks(store: Store) -> Marks:
    """The marks that are set now. Raises DataError at a damaged alias or pin."""
    wanted, published = {pin.ref for pin in pins(store)}, set()
    names = {tuple(info.key.split("/")[1:3]) for info in store.backend.list(f"{layout.ALIASES}/")}
    for kind, name in sorted(names):
        for text, alias in store.aliases(kind, name).items():
            wanted.add(ArtifactRef(kind, name, version=alias.version))
            if text == LATEST:
                numbers = {entry["version"] for entry in alias.history}
                published |= {ArtifactRef(kind, name, version=number) for number in numbers}
    return Marks(frozenset(wanted), frozenset(published))


def expiring(inventory: Inventory, rules: Rules, marks: Marks, grace_s: float) -> set[Key]:
    """The artifacts that expire: no rule keeps them, no mark, and nothing that is kept was made from them.

    An artifact without a version is kept by its age alone, or as a part: while something that is kept
    holds all of its files.
    """
    held = {key: holding for key, holding in inventory.holdings.items() if holding.pointers}
    newest = _newest(held, rules.keep_last or 1)  # the highest number stays, so that none is used twice
    kept = inventory.with_ancestors(
        key for key, holding in held.items() if _stays(key, holding, rules, marks, newest, grace_s)
    )
    while parts := _parts(inventory, held.keys() - kept, kept):
        kept = inventory.with_ancestors(kept | parts)
    return held.keys() - kept


def expire(store: Store, inventory: Inventory, keys: Collection[Key], grace_s: float) -> list[Key]:
    """Take the pointers to these artifacts away, unless a mark was set meanwhile; returns what expired.

    May be repeated after a crash at any moment.
    """
    done: list[Key] = []
    spared: set[Key] = set()
    order = inventory.children_first(set(keys))
    for start in range(0, len(order), _AT_ONCE):
        with Lease(store, GC) as lease:  # nobody marks a version meanwhile
            marks = read_marks(store)
            for key in order[start : start + _AT_ONCE]:
                holding = inventory.holdings[key]
                if key in spared or _is_marked(holding, marks, grace_s):
                    spared |= inventory.with_ancestors([key])
                    continue
                lease.check()
                _expire(store, inventory, holding)
                done.append(key)
    return done


def _expire(store: Store, inventory: Inventory, holding: Holding) -> None:
    for sha256 in sorted(holding.pointed):
        key = layout.manifest(sha256)
        if not store.backend.touch(key):  # as with a file of another user
            store.backend.put(key, inventory.graph.manifests[sha256].to_bytes())
    for key, pointer in sorted(holding.pointers.items()):  # fingerprints/ comes before names/
        data = store.backend.get(key)
        if data is not None and Pointer.decode(key, data) == pointer:
            store.backend.delete(key)


def _stays(
    key: Key, holding: Holding, rules: Rules, marks: Marks, newest: set[ArtifactRef], grace_s: float
) -> bool:
    if rules.only and key[0] not in rules.only:
        return True
    if rules.keep_days is not None and holding.youngest_s <= rules.keep_days * DAY_S:
        return True
    if not holding.versions:
        return holding.youngest_s <= grace_s  # maybe a part of something that is built now
    return not newest.isdisjoint(holding.versions) or _is_marked(holding, marks, grace_s)


def _is_marked(holding: Holding, marks: Marks, grace_s: float) -> bool:
    """True if an alias or a pin needs it, or a commit that is under way will make it ``latest``."""
    return any(
        ref in marks.wanted or (age_s <= grace_s and ref not in marks.published)
        for ref, age_s in holding.versions.items()
    )


def _newest(held: dict[Key, Holding], count: int) -> set[ArtifactRef]:
    """The ``count`` highest versions of each name."""
    by_name: dict[tuple[str, str], list[ArtifactRef]] = defaultdict(list)
    for holding in held.values():
        for ref in holding.versions:
            by_name[ref.kind, ref.name].append(ref)
    return {ref for refs in by_name.values() for ref in sorted(refs)[-count:]}


def _parts(inventory: Inventory, candidates: Collection[Key], kept: set[Key]) -> set[Key]:
    """Those without a version whose files all belong to something that is kept."""
    files = {
        entry.sha256
        for key in kept
        for sha256 in inventory.holdings[key].manifests
        for entry in inventory.graph.manifests[sha256].files
    }

    def is_part(key: Key) -> bool:
        holding = inventory.holdings[key]
        manifests = [inventory.graph.manifests[sha256] for sha256 in holding.pointed]
        held = all(entry.sha256 in files for found in manifests for entry in found.files)
        return held and not holding.versions

    return {key for key in candidates if is_part(key)}
