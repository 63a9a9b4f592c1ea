"""The README.md of an exported folder: what is in it, and the lines that read it."""

from __future__ import annotations

from collections.abc import Sequence

from nanochat.export.tiktoken_files import LOADER, RANKS

TRIED = "5.24.0"
_CODE_NEEDED = """\
**This folder needs `trust_remote_code=True`.** transformers then runs `modeling_nanochat_pipeline.py` and
`configuration_nanochat_pipeline.py`, because its own NanoChat lacks what this model has: {beyond}.
They are written for transformers 5 and were tried with {tried}.
Read them first if the folder did not come from you. They import torch and transformers, nothing else.
"""
_NO_CODE = "Stock transformers (5 or newer) loads it as NanoChatForCausalLM; no code comes with it.\n"
_HF = """\
{code}
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER"{trust})
model = AutoModelForCausalLM.from_pretrained("FOLDER"{trust})
{prompt}answer = model.generate(**inputs, max_new_tokens=100, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :]))
```

The context is {context} tokens. The weights are fp32. {about}
{tokens}"""
_CHAT_PROMPT = """\
chat = [{"role": "user", "content": "What is 37 + 45?"}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
"""
_TEXT_PROMPT = """\
inputs = tokenizer("<|bos|>The capital of France is", return_tensors="pt")
"""
_BOS = """\
Text that is to be continued begins with `<|bos|>`, as all did in training; the tokenizer does not
put it there.
"""
_CHAT = f"""\
Nothing here runs the calculator: after
`<|python_end|>` nanochat-pipeline puts the result, and transformers lets the model make one up.

{_BOS}"""
_TEXT = f"""\
The model continues text; it has not
learned to chat, nor the chat template that comes along for models that are fine-tuned from it.

{_BOS}"""
_TOKENS = """\
`tokenizer.json` gives the same ids as nanochat-pipeline (but for text with the noncharacters U+FDD1 U+FDD0,
which it removes, or `<` U+FDD0 U+FDD1 `|`, which it takes for `<|`). Text that spells a
special token (`<|bos|>`) becomes that token, as is the custom there; for text that others wrote say
`tokenizer(text, split_special_tokens=True)`. The chat template needs no such care: it renders conversations
as they were trained on, and what is written in a message stays text. (Leave `sanitize_control_tokens` off:
it cuts words in other places.)
"""
_TOKENIZER = """\
```python
from transformers import PreTrainedTokenizerFast

tokenizer = PreTrainedTokenizerFast.from_pretrained("FOLDER")
print(tokenizer("Hello", split_special_tokens=True)["input_ids"])
```

Or without transformers: `tokenizers.Tokenizer.from_file("FOLDER/tokenizer.json")`, and then
`encode_special_tokens = True` on it.

"""
_TIKTOKEN = f"""\
`{RANKS}` has a line for each token: its bytes in base64 and its rank. Split pattern and special tokens are
in `{LOADER}`, which makes an encoding of them. In this folder:

```python
from nanochat_encoding import load

print(load().encode_ordinary("Hello"))
```
"""
_SAFETENSORS = """\
The files as nanochat-pipeline keeps them: the weights (fp32, rows of the tables padded to a multiple of 64),
the shape, and the tokenizer (`merges`: tokens after the 256 bytes, in base64; then come the special ones).

```python
from safetensors.torch import load_file

weights = load_file("FOLDER/model.safetensors")
```
"""


def readme(name: str, format: str, beyond: Sequence[str], context: int | None) -> str:
    """The page for the artifact ``name`` in ``format``; ``beyond``: see ``beyond_stock``."""
    if format == "hf":
        code = _CODE_NEEDED.format(beyond=", ".join(beyond), tried=TRIED) if beyond else _NO_CODE
        trust = ", trust_remote_code=True" if beyond else ""
        prompt, about = (_TEXT_PROMPT, _TEXT) if name.startswith("base/") else (_CHAT_PROMPT, _CHAT)
        text = _HF.format(code=code, trust=trust, prompt=prompt, about=about, context=context, tokens=_TOKENS)
    elif format == "tokenizer-json":
        text = _TOKENIZER + _TOKENS
    else:
        text = _TIKTOKEN if format == "tiktoken" else _SAFETENSORS
    return f"# {name}\n\nMade with nanochat-pipeline, exported as `{format}`.\n\n{text}"
