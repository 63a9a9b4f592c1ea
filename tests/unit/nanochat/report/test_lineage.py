"""The picture shows the pipeline as it is."""

from __future__ import annotations

from flows.dag import STAGES
from nanochat.report import lineage
from nanochat.report.evidence import STAGES as ROLES

DIGESTS = {role: f"{number:064x}" for number, role in enumerate(ROLES)}


def test_every_arrow_is_an_input_of_the_pipeline() -> None:
    role_of = {stage.id: "tokens" if stage.id == "tokenize" else stage.id for stage in STAGES}
    inputs = {role_of[stage.id]: {role_of[source] for source in stage.inputs.values()} for stage in STAGES}
    assert set(lineage.PLACES) == inputs["report"] == set(ROLES)
    assert all(set(parents) <= inputs[child] for child, parents in lineage.READS.items())
    assert set(lineage.READS) == {stage for stage, parents in inputs.items() if parents} - {"report"}


def test_boxes_do_not_overlap_and_fit() -> None:
    picture = lineage.picture(DIGESTS)
    corners = {(box.x, box.y) for box in picture.boxes}
    assert len(corners) == len(DIGESTS)
    assert all(
        box.x + box.width <= picture.width and box.y + box.height <= picture.height for box in picture.boxes
    )


def test_arrows_need_both_ends() -> None:
    assert lineage.picture({"base": "0" * 64}).paths == ()
    assert len(lineage.picture({"base": "0" * 64, "mid": "1" * 64}).paths) == 1
