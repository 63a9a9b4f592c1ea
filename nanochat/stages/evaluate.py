"""Evaluation of one model: bits per byte, chat tasks with intervals, and samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from nanochat.config.base import Config, Dtype, runtime_field
from nanochat.runtime import StageContext, Summary, stage_main

if TYPE_CHECKING:
    from nanochat.engine.generate import Engine
    from nanochat.evals.bpb import BitsPerByte
    from nanochat.evals.contamination import SeenPairs
    from nanochat.records import RecordWriter

VERSION = 1
SCHEMA = 1
SEED_OFFSET = 10_000  # other test problems than those that training stages watch with the same seed
OTHER_PROBLEMS = 200

TASKS = ("arithmetic/easy", "arithmetic/hard", "docs", "spelling")
BEGINNINGS = (
    "The first thing to do is",
    "Return a list of",
    "This function raises",
    "The opposite of hot is",
    "If the file does not exist,",
    "A string is",
    "In the morning",
)
QUESTIONS = (
    "What is 37 + 45?",
    "A shop had 120 eggs and sold 48. How many are left?",
    "Who are you?",
    "What does `join` do?",
    "How many r are in strawberry?",
    "Spell the word banana.",
    "Hello! How are you?",
)


class EvaluateConfig(Config):
    """What to measure, on how much, with which seed."""

    stage: Literal["eval-base", "eval-mid", "eval-sft", "eval-rl"] = Field(
        "eval-base", description="the stage id that records carry; eval-base samples plain text, others chat"
    )
    tasks: list[str] = Field(list(TASKS), description="tasks whose test sets are answered, greedily")
    num_problems: int = Field(500, ge=1, description="problems of each calculator task; others at most 200")
    max_new_tokens: int = Field(64, ge=1, description="longest answer in tokens")
    bpb: bool = Field(True, description="measure bits per byte on validation documents")
    bpb_tokens: int = Field(100_000, ge=1, description="whole validation documents up to this many tokens")
    scan_bytes: int = Field(
        200_000_000, ge=0, description="training text searched for operand pairs, which are then not tested"
    )
    num_samples: int = Field(7, ge=0, le=len(QUESTIONS), description="samples kept in the results")
    dtype: Dtype = Field("auto", description="compute dtype; auto asks the hardware")
    seed: int = Field(1234, ge=0, description="of the test problems and the bootstrap")
    batch_rows: int = runtime_field(128, ge=1, description="answers generated side by side")

    def task_modules(self) -> list[str]:
        """Modules of ``nanochat.tasks`` that these tasks depend on, for the fingerprint."""
        from nanochat.tasks.mixture import task_modules

        return sorted(task_modules(self.tasks))


def run(ctx: StageContext, config: EvaluateConfig) -> Summary:
    """Measure ``model`` and write results.json. Inputs: ``model``, ``tokens``, ``shards``."""
    import json

    from nanochat.engine.generate import Engine
    from nanochat.engine.model_folder import open_model
    from nanochat.records import RecordWriter
    from nanochat.train.setup import resolve_device, resolve_dtype, seed_everything

    device = resolve_device()
    seed_everything(config.seed, device)
    model, tokenizer = open_model(ctx.inputs["model"], device, resolve_dtype(config.dtype, device))
    engine = Engine(model, tokenizer)
    writer = RecordWriter(ctx.attempt / "records.jsonl", config.stage)
    writer.rewind(-1)  # an evaluation that was cut off starts over

    metrics = [_bpb_metric(_measure_bpb(ctx, config, engine))] if config.bpb else []
    seen = _seen_pairs(ctx, config)
    problems: dict[str, list[dict[str, Any]]] = {}
    for number, name in enumerate(config.tasks, 1):
        rows, problems[f"{name}/test"] = _evaluate_task(ctx, config, engine, name, seen)
        metrics += rows
        writer.write("stage/progress", number / len(config.tasks), step=number)
    samples = _samples(config, engine)
    _record(writer, metrics, samples)
    scanned = {"scanned_bytes": seen.scanned_bytes, "test_pairs_in_training_text": len(seen.pairs)}
    results = {
        "schema": SCHEMA, "stage": config.stage, "metrics": metrics, "problems": problems,
        "samples": samples, "contamination": scanned,
    }  # fmt: skip
    text = json.dumps(results, ensure_ascii=True, allow_nan=False, indent=1)
    (ctx.output / "results.json").write_text(text + "\n", encoding="utf-8")
    return _summary(metrics)


def _record(writer: RecordWriter, metrics: list[dict[str, Any]], samples: list[dict[str, str]]) -> None:
    for row in metrics:
        interval = None if row["ci_low"] is None else (row["ci_low"], row["ci_high"])
        writer.write(
            row["name"], row["value"], kind="eval", step=0,
            n=row["n"], ci=interval, task=row["task"], split=row["split"],
        )  # fmt: skip
    writer.write("sample/text", {"samples": samples}, kind="sample", step=0)


def _measure_bpb(ctx: StageContext, config: EvaluateConfig, engine: Engine) -> BitsPerByte:
    from nanochat.data.token_shards import TokenShards
    from nanochat.evals.bpb import bits_per_byte

    shards = TokenShards(ctx.inputs["tokens"], "val")
    documents, tokens = [], 0
    for number in range(sum(shards.rows)):
        documents.append(shards.read(number))
        tokens += len(documents[-1])
        if tokens >= config.bpb_tokens:
            break
    tokenizer = engine.tokenizer
    return bits_per_byte(
        engine.model, documents, bos=tokenizer.special("bos"), token_bytes=tokenizer.token_bytes,
        seq_len=engine.context_tokens,
    )  # fmt: skip


def _bpb_metric(measured: BitsPerByte) -> dict[str, Any]:
    return {"name": "val_bpb", "task": None, "split": "val", "value": round(measured.value, 6),
            "n": measured.documents, "ci_low": None, "ci_high": None}  # fmt: skip


def _seen_pairs(ctx: StageContext, config: EvaluateConfig) -> SeenPairs:
    from nanochat.evals.contamination import SeenPairs, scan_training_text

    if not any(name.startswith("arithmetic/") for name in config.tasks):
        return SeenPairs(frozenset(), 0)
    return scan_training_text(ctx.inputs["shards"], config.scan_bytes)


def _evaluate_task(
    ctx: StageContext, config: EvaluateConfig, engine: Engine, name: str, seen: SeenPairs
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(metric rows, problem records) of one task's test set."""
    from nanochat.evals.chat import metrics_of, run_task
    from nanochat.evals.contamination import unseen_examples
    from nanochat.tasks.mixture import load_task

    task = load_task(name, ctx.inputs["shards"])
    calculator = name.startswith("arithmetic/")
    wanted = config.num_problems if calculator else min(config.num_problems, OTHER_PROBLEMS)
    examples = unseen_examples(task, wanted, config.seed + SEED_OFFSET, seen)
    outcomes = run_task(
        engine, task, examples, max_tokens=config.max_new_tokens, batch_rows=config.batch_rows
    )
    return metrics_of(outcomes, name, "test", config.seed), [outcome.as_json() for outcome in outcomes]


def _samples(config: EvaluateConfig, engine: Engine) -> list[dict[str, str]]:
    """Greedy continuations (base) or answers (chat) of fixed prompts."""
    from nanochat.engine.chat import ChatSession, readable

    tokenizer = engine.tokenizer
    if config.stage == "eval-base":
        beginnings = BEGINNINGS[: config.num_samples]
        prompts = [[tokenizer.special("bos"), *tokenizer.encode(beginning)] for beginning in beginnings]
        completions = engine.generate(prompts, max_tokens=config.max_new_tokens)
        texts = [completion.text for completion in completions]
        return [{"prompt": prompt, "text": text} for prompt, text in zip(beginnings, texts, strict=True)]
    answers = []
    for question in QUESTIONS[: config.num_samples]:
        pieces = ChatSession(engine).ask(question, max_tokens=config.max_new_tokens)
        answers.append({"prompt": question, "text": "".join(readable(pieces))})
    return answers


def _summary(metrics: list[dict[str, Any]]) -> Summary:
    """Every bits-per-byte and accuracy value by name; the most telling one as the key metric."""
    values = {row["name"]: row["value"] for row in metrics if row["name"] == "val_bpb"}
    values |= {row["task"]: row["value"] for row in metrics if row["name"] == "eval/accuracy"}
    values |= {f"{row['task']} F1": row["value"] for row in metrics if row["name"] == "eval/token_f1"}
    tasks = [row["task"] for row in metrics if row["name"] == "eval/accuracy"]
    return Summary(metrics=values, key_metric=tasks[0] if tasks else "val_bpb")


if __name__ == "__main__":
    stage_main("evaluate", EvaluateConfig, run)
