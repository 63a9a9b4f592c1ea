"""The commands: name -> where it is, and one line of help. Imports nothing, so ``--help`` is instant."""

from __future__ import annotations

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("flows.cli.run:run", "Train a model, or the part of it that is not built yet."),
    "plan": ("flows.cli.plan:plan", "Say what is cached, what would run, and why."),
    "sweep": ("flows.cli.sweep:sweep", "Train models of many sizes and fit how loss follows compute."),
    "calc": ("flows.cli.calc:calc", "Compute what a model has, takes and costs."),
    "lr-find": ("flows.cli.lr_find:lr_find", "Find the learning rate at which a fresh model learns fastest."),
    "presets": ("flows.cli.presets:presets", "List the presets."),
    "chat": ("flows.cli.chat:chat", "Talk to a model."),
    "serve": ("flows.cli.serve:serve", "Answer in the browser and over OpenAI's API."),
    "eval": ("flows.cli.evaluate:evaluate", "Evaluate a model."),
    "export": ("flows.cli.export:export", "Write a model or tokenizer for transformers or tiktoken."),
    "import": ("flows.cli.import_model:import_model", "Store a checkpoint that nanochat made."),
    "metrics": ("flows.cli.metrics:metrics", "Show the newest results, or ask anything in SQL."),
    "up": ("flows.cli.up:up", "Start a Prefect server, workers and the web app on this machine."),
    "down": ("flows.cli.up:down", "Stop what nanochat up started."),
    "node": ("flows.cli.node:node", "Take part in a stage as a pod of a Kubernetes job of several."),
    "doctor": ("flows.cli.doctor:doctor", "Check this machine."),
}

ART: dict[str, tuple[str, str]] = {
    "ls": ("flows.cli.art_ls:ls", "List artifacts."),
    "show": ("flows.cli.art:show", "Show one artifact: recipe, files, metrics, aliases."),
    "lineage": ("flows.cli.art:lineage", "Show what an artifact was made from, or what was made from it."),
    "why": ("flows.cli.art_rebuild:why", "Say in plain words how an artifact came to be."),
    "reproduce": ("flows.cli.art_rebuild:reproduce", "Build it again in a fresh place and compare digests."),
    "verify": ("flows.cli.art:verify", "Check every byte of an artifact, or of the store."),
    "alias": ("flows.cli.art:alias", "Point an alias to an artifact."),
    "get": ("flows.cli.art:get", "Copy an artifact's files into a new folder."),
    "diff": ("flows.cli.art_move:diff", "Show what differs between two artifacts."),
    "export": ("flows.cli.art_move:export", "Write an artifact and all that it was made from to one file."),
    "import": ("flows.cli.art_move:import_", "Store the artifacts of such a file."),
    "keygen": ("flows.cli.art_sign:keygen", "Make a key to sign artifacts with."),
    "sign": ("flows.cli.art_sign:sign", "Sign an artifact with a private key."),
    "adopt": ("flows.cli.art_keep:adopt", "Store a folder that was made elsewhere, to build on it."),
    "pin": ("flows.cli.art_keep:pin", "Mark an artifact, so that gc keeps it whatever its rules say."),
    "unpin": ("flows.cli.art_keep:unpin", "Take that mark away."),
    "gc": (
        "flows.cli.art_keep:gc",
        "Remove what nothing refers to any more, and old versions by rule.",
    ),
}

TOK: dict[str, tuple[str, str]] = {
    "train": ("flows.cli.tok:train", "Train a tokenizer on files of text, without the pipeline."),
    "encode": ("flows.cli.tok:encode", "Print the token ids of a text."),
    "decode": ("flows.cli.tok:decode", "Print the text of token ids."),
    "view": ("flows.cli.tok_view:view", "Show a text token by token, or a conversation, or the vocabulary."),
    "eval": ("flows.cli.tok_eval:evaluate", "Measure how well a tokenizer compresses kinds of text."),
    "compare": ("flows.cli.tok_eval:compare", "Compare tokenizers over the same texts."),
}

STORE: dict[str, tuple[str, str]] = {
    "serve": ("flows.cli.store:serve", "Run a small S3 server on this machine."),
}

GROUPS: dict[str, tuple[dict[str, tuple[str, str]], str]] = {
    "art": (ART, "Artifacts: what was built, from what, and whether it is intact."),
    "tok": (TOK, "Tokenizers: train one, use it, look inside."),
    "store": (STORE, "Where artifacts are kept."),
}

EXAMPLE = """\
  nanochat run demo                     train the demo model; later runs find it
  nanochat run demo --set rl.steps=80   change one thing: only what depends on it runs
  nanochat chat -p "What is 37 + 45?"   talk to the model of the last run"""


def overview() -> str:
    """What ``nanochat --help`` prints."""
    entries = {name: text for name, (_, text) in COMMANDS.items()}
    for group, (commands, _) in GROUPS.items():
        entries |= {f"{group} {name}": text for name, (_, text) in commands.items()}
    width = max(map(len, entries))
    lines = [f"  {name:<{width}}  {text}" for name, text in entries.items()]
    return "\n".join([
        "Train a small ChatGPT end to end, as a cached and resumable pipeline.", "",
        "Usage: nanochat COMMAND [--json] [--debug] [--allow-unsafe-store]", "",
        *lines, "", "Examples:", EXAMPLE, "",
        "nanochat COMMAND --help explains a command.",
    ])  # fmt: skip
