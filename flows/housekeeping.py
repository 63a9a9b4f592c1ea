"""Small flows around the pipeline: does a model answer, and what may be removed."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, ConfigDict, Field

from artifacts.errors import DataError
from artifacts.retention import Rules
from artifacts.store import Store
from flows.params import OptionalText
from flows.settings import Settings


class ServeCheckParams(BaseModel):
    """Which model has to answer, and what it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("rl/demo@latest", title="Model", description="For example rl/demo@prod.")
    question: str = Field("What is 37 + 45?", min_length=1, title="Question")
    max_tokens: int = Field(256, ge=1, title="Tokens", description="The longest answer.")
    store: OptionalText = Field("", title="Store", description="URL or folder; default: $NANOCHAT_STORE.")


class GcParams(BaseModel):
    """What may go; without a rule, only what nothing refers to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dry_run: bool = Field(True, title="Only say what would go")
    keep_last: int | None = Field(None, ge=1, title="Keep the last", description="Versions of each name.")
    keep_days: float | None = Field(None, ge=0, title="Keep days", description="What was stored since.")
    store: OptionalText = Field("", title="Store", description="URL or folder; default: $NANOCHAT_STORE.")


@flow(name="serve-check", flow_run_name="{params.model}", persist_result=False)
def serve_check(params: ServeCheckParams) -> str:
    """Load a model, ask it one question, and fail if its answer does not end."""
    store = Store.open(params.store, create=False)
    ref, manifest = store.resolve(params.model)
    folder = store.checkout(manifest, Settings().views)

    from nanochat.engine.generate import Engine
    from nanochat.engine.model_folder import open_model
    from nanochat.tokenizer.chat import render_for_completion

    engine = Engine(*open_model(folder, "cpu"))
    asked = {"messages": [{"role": "user", "content": params.question}]}
    prompt = render_for_completion(engine.tokenizer, asked)
    (answer,) = engine.generate([prompt], max_tokens=params.max_tokens)
    get_run_logger().info("%s: %s → %s", ref, params.question, answer.text)
    if not answer.ended:
        raise DataError(
            f"{ref} did not end its answer within {params.max_tokens} tokens", "look at its samples"
        )
    return answer.text


@flow(name="gc", persist_result=False)
def collect_garbage(params: GcParams) -> dict[str, Any]:
    """Remove from the store what nothing refers to any more, and old versions by rule."""
    store = Store.open(params.store, create=False)
    report = store.gc(dry_run=params.dry_run, rules=Rules(params.keep_last, params.keep_days))
    said = {
        "dry run": report.dry_run, "versions expired": len(report.expired),
        "objects removed": len(report.removed), "bytes removed": report.bytes,
        "objects that may go later": len(report.later), "their bytes": report.later_bytes,
    }  # fmt: skip
    rows = [{"what": name, "value": value} for name, value in said.items()]
    create_table_artifact(key="gc", table=rows, description="what gc found")
    return said
