"""What the formats of a lineage have in common: how they name artifacts and commits."""

from __future__ import annotations

from artifacts.lineage import Graph, Node


def ids_of(graph: Graph) -> dict[str, str]:
    """Ref -> an id that is safe in every format."""
    return {node["ref"]: f"n{number}" for number, node in enumerate(graph["nodes"])}


def plain(text: str) -> str:
    """Text whose control, bidirectional and other invisible characters are written as escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def commit_text(node: Node, digits: int = 12) -> str:
    """The commit that made an artifact, shortened, and whether its files were changed; ? if unknown."""
    commit = plain((node["provenance"]["commit"] or "?")[:digits])
    return f"{commit} with changes" if node["provenance"]["dirty"] else commit
