"""A catalog of made-up artifacts and runs, as rich as a demo's, for pages that want something to show."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.errors import DataError, ResourceError, UsageError
from nanochat.serve.catalog import (
    ArtifactPage,
    Curve,
    Edge,
    Graph,
    Link,
    Measured,
    Night,
    Row,
    Run,
    Stage,
    Trend,
    Working,
)
from nanochat.tokenizer.tokenizer import FILE_NAME
from nanochat.tokenizer.training import train_on_texts

PAGE = ArtifactPage(
    ref="base/demo@v2", digest="ab" * 32, fingerprint="cd" * 32, stage="base",
    created="2026-11-22T03:04:05+01:00", bytes=1_234_567, aliases=["latest", "prod"],
    metrics={"val_bpb": 1.8065518947, "steps": 330}, config={"optim.lr_scale": 0.8, "name": "<b>bold</b>"},
    inputs=[Link("tokens", "tokens/demo@v1")], used_by=[Link("model", "sft/demo@v1")],
    files=[("model.safetensors", 1_234_000, "ef" * 32)], commit="1234abcd", command="nanochat run demo",
    made_with={"torch": "2.15.0"}, run_url="http://127.0.0.1:4200/runs/flow-run/1",
)  # fmt: skip
MODELS = ("base", "mid", "sft", "rl")
READS = {
    "tokenizer": ["shards"], "tokens": ["tokenizer", "shards"], "base": ["tokens", "tokenizer"],
    "mid": ["base", "shards"], "sft": ["mid", "shards"], "rl": ["sft", "shards"],
    **{f"eval-{model}": [model, "tokens", "shards"] for model in MODELS},
    "report": ["shards", "tokenizer", "tokens", *MODELS, *(f"eval-{model}" for model in MODELS)],
}  # fmt: skip
METRICS = {
    "shards": "text_bytes 31252378", "tokenizer": "bytes_per_token 3.002", "tokens": "tokens 10284226",
    "base": "val_bpb 1.916", "mid": "val_loss 1.142", "sft": "val_loss 1.109", "rl": "accuracy 0.62",
    "report": "targets_met 7",
}  # fmt: skip


def ref_of(stage: str) -> str:
    return f"eval/demo-{stage.removeprefix('eval-')}@v1" if stage.startswith("eval-") else f"{stage}/demo@v1"


def curve(name: str, unit: str, start: float, end: float, points: int) -> Curve:
    """From ``start`` towards ``end``, with a wave that stands for noise."""
    values = [
        (
            330.0 * step / points,
            end + (start - end) * math.exp(-4 * step / points) + 0.03 * math.sin(9 * step),
        )
        for step in range(points)
    ]
    return Curve(name, unit, values)


class Shown:
    """One artifact and one report; what else is asked for is not there."""

    def artifact(self, ref: str) -> ArtifactPage:
        if ref == "base/broken":
            raise DataError("base/broken is damaged", "nanochat run demo --force base")
        if not ref.startswith("base/demo"):
            raise ResourceError(f"no artifact {ref}", "did you mean base/demo?")
        return PAGE

    def page(self, ref: str, file: str) -> bytes:
        if (ref, file) != ("report/demo@v1", "report.html"):
            raise UsageError(f"{ref} has no page {file}", "")
        return b"<h1>numbers</h1><script>steal()</script>"


@dataclass
class MadeUpCatalog(Shown):
    """``folder``: where its tokenizer lies. ``aliases``: set by the page, ref -> names."""

    folder: Path
    aliases: dict[str, list[str]] = field(default_factory=lambda: {ref_of("rl"): ["latest", "prod"]})
    is_working: bool = True
    nights: int = 9

    def __post_init__(self) -> None:
        if not (self.folder / FILE_NAME).exists():
            text = "What is 37 + 45? Let me see: it is 82. How many tokens are naïve café 🙂 here, hello?\n"
            train_on_texts([text], 320).save(self.folder)

    def _row(self, stage: str) -> Row:
        ref = ref_of(stage)
        numbers = {"val_loss": 1.1087, "accuracy": 0.62, "steps": 330} if stage in MODELS else {}
        return Row(
            ref, tuple(self.aliases.get(ref, ["latest"])), "2026-11-22T03:04:05+00:00", 7_234_567,
            METRICS.get(stage, "arithmetic/easy 0.99"), numbers,
        )  # fmt: skip

    def artifacts(self, limit: int) -> list[Row]:
        return [self._row(stage) for stage in reversed(["shards", *READS])][:limit]

    def checkpoints(self, limit: int) -> list[Row]:
        return [self._row(stage) for stage in reversed(MODELS)][:limit]

    def set_alias(self, ref: str, alias: str) -> str:
        if alias == "latest":
            raise UsageError("the alias latest moves by itself", "choose another, such as prod")
        for names in self.aliases.values():
            if alias in names:
                names.remove(alias)
        self.aliases.setdefault(ref, ["latest"]).append(alias)
        return ref

    def lineage(self, ref: str, *, forward: bool) -> Graph:
        evals = [f"eval-{model}" for model in MODELS]
        stages = ["report", *reversed(MODELS), *evals, "tokens", "tokenizer", "shards"]
        if forward:
            stages.reverse()
        nodes = {ref_of(stage): METRICS.get(stage, "arithmetic/easy 0.99") for stage in stages}
        edges = [
            Edge(ref_of(parent), ref_of(child), parent)
            for child, parents in READS.items()
            for parent in parents
        ]
        return Graph(ref_of(stages[0]), nodes, edges)

    def runs(self, limit: int) -> list[Run]:
        stages = [
            Stage(stage, "cached" if stage in ("shards", "tokenizer") else "ran", ref_of(stage), 21.5,
                  METRICS.get(stage, "arithmetic/easy 0.99"))
            for stage in ("shards", *READS)
        ]  # fmt: skip
        url = "http://127.0.0.1:4200/runs/flow-run/1"
        return [
            Run("20261122T030405.000000-demo", "demo", "2026-11-22T03:04:05+00:00", 215.2, stages,
                {"preset": "demo", "set.rl.steps": 40}, url),
            Run("20261121T030405.000000-tiny", "tiny", "2026-11-21T03:04:05+00:00", 61.0, stages[:3]),
        ][:limit]  # fmt: skip

    def run(self, id: str) -> Run:
        for run in self.runs(9):
            if run.id == id:
                return run
        raise ResourceError(f"no run {id} on this machine", "the page of all runs lists them")

    def curves(self, ref: str) -> list[Curve]:
        if not ref.startswith(MODELS):
            return []
        return [
            curve("train/loss", "nats/token", 6.2, 1.4, 330), curve("val_loss", "nats/token", 6.1, 1.5, 12),
            Curve("train/tokens_per_second", "tokens/s",
                  [(step, 51_000 + 9000 * math.sin(step / 9)) for step in range(50)]),
        ]  # fmt: skip

    def working(self) -> list[Working]:
        if not self.is_working:
            return []
        curves = [curve("train/loss", "nats/token", 6.2, 2.4, 120)]
        return [
            Working("a" * 64, "base", "2026-11-23T08:00:00+00:00", "36 %  step 120 loss 2.431", 0.36, curves)
        ]

    def trends(self, nights: int) -> list[Trend]:
        shown = [self._night(number) for number in range(min(nights, self.nights))]
        worse = (
            ["arithmetic/hard: 0.63 → 0.41 since eval/demo-rl-prod@v8, p = 0.0013"] if len(shown) > 8 else []
        )
        return [Trend("eval/demo-rl-prod", shown, worse)] if shown else []

    @staticmethod
    def _night(number: int) -> Night:
        hard = 0.41 if number == 8 else 0.55 + 0.01 * number
        measured = [
            Measured("arithmetic/easy", "accuracy", 0.96, 0.93, 0.98, 200),
            Measured("arithmetic/hard", "accuracy", hard, hard - 0.07, hard + 0.07, 200),
            Measured(
                "spelling", "accuracy", 0.7 + 0.02 * number, 0.63 + 0.02 * number, 0.77 + 0.02 * number, 200
            ),
            Measured("", "val_bpb", 1.95 - 0.01 * number, None, None, 32_768),
        ]
        ref = f"eval/demo-rl-prod@v{number + 1}"
        return Night(f"2026-11-{number + 10:02d}T03:00:00+00:00", ref, f"rl/demo@v{number + 1}", measured)

    def tokenizers(self, limit: int) -> list[str]:
        return ["tokenizer/demo@v2", "tokenizer/demo@v1"][:limit]

    def tokenizer(self, ref: str) -> Path:
        if not ref.startswith(("tokenizer/demo", "base/demo")):
            raise ResourceError(f"no artifact {ref}", "did you mean tokenizer/demo?")
        return self.folder
