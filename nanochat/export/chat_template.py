"""Our rendering of conversations as a Jinja template, for ``apply_chat_template`` of transformers.

A template makes one string of a conversation, in which a tokenizer then looks for special tokens. So that
what is written in a message cannot open or end a turn, the template breaks each ``<|`` in it with ``BREAK``,
two Unicode noncharacters that are in no text; the tokenizer's normalizer mends them after it has found the
special tokens. ``BORDER`` keeps parts of text apart that are encoded apart; the tokenizer removes it.
"""

from __future__ import annotations

from nanochat.tokenizer.chat import TOOL_TOKENS

BREAK = "\ufdd0\ufdd1"
BORDER = "\ufdd1\ufdd0"
OPENING = "<|"
BROKEN = f"<{BREAK}|"

_TEXT = f'| replace("{OPENING}", "{BROKEN}")'
_PARTS = "".join(
    f"""\
      {{%- elif part.type == "{kind}" %}}
        {{{{- "<|{name}_start|>" ~ (part.text {_TEXT}) ~ "<|{name}_end|>" }}}}
"""
    for kind, name in TOOL_TOKENS.items()
)
CHAT_TEMPLATE = f"""\
{{%- set system = "" %}}
{{%- set turns = messages %}}
{{%- if messages[0].role == "system" %}}
  {{%- set system = messages[0].content ~ "\\n\\n" %}}
  {{%- set turns = messages[1:] %}}
{{%- endif %}}
{{%- if not turns %}}{{{{ raise_exception("no user message") }}}}{{%- endif %}}
{{%- if add_generation_prompt and turns[-1].role == "assistant" %}}
  {{%- set turns = turns[:-1] %}}
{{%- endif %}}
{{{{- "<|bos|>" }}}}
{{%- for message in turns %}}
  {{%- set role = "user" if loop.index0 % 2 == 0 else "assistant" %}}
  {{%- if message.role != role %}}
    {{{{- raise_exception("roles must alternate: " ~ message.role ~ " where " ~ role ~ " was expected") }}}}
  {{%- endif %}}
  {{{{- "<|" ~ role ~ "_start|>" }}}}
  {{%- if message.content is string %}}
    {{{{- (((system if loop.first else "") ~ message.content) {_TEXT}) }}}}
  {{%- elif role == "user" %}}
    {{{{- raise_exception("the content of a user message is not text") }}}}
  {{%- else %}}
    {{%- for part in message.content %}}
      {{%- if part.type == "text" %}}
        {{{{- "{BORDER}" ~ (part.text {_TEXT}) }}}}
{_PARTS}\
      {{%- else %}}
        {{{{- raise_exception("a part of type " ~ part.type) }}}}
      {{%- endif %}}
    {{%- endfor %}}
  {{%- endif %}}
  {{{{- "<|" ~ role ~ "_end|>" }}}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}{{{{- "<|assistant_start|>" }}}}{{%- endif %}}
"""
