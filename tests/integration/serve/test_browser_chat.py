"""The chat page in a real browser, against an API that answers what each test has planned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.serve.scripted_api import Plan, ScriptedApi, site

pytestmark = pytest.mark.needs("chromium")
CODE = "```python\ndef add(a, b):\n    return a + b\n```"
MARKDOWN = f"""# Title

Some **bold**, *italic*, snake_case_name and `code <b>`, see [docs](https://docs.python.org/3/).

1. one
2. two
   - inside

> quoted

{CODE}
"""
# What a page must not run, by script, by event, by address, by style, or out of what Markdown becomes.
PAYLOADS = [
    "<script>window.pwned=1</script>", "<img src=x onerror=window.pwned=1>", "<svg onload=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>", "<body onload=window.pwned=1>",
    "<a href='javascript:window.pwned=1'>x</a>", "[x](javascript:window.pwned=1)",
    "[x](JaVaScRiPt:window.pwned=1)",
    "[x](data:text/html,<script>parent.pwned=1</script>)", "![x](x\"onerror=window.pwned=1)",
    "[x](https://a.b/\"onmouseover=\"window.pwned=1)", "`<img src=x onerror=window.pwned=1>`",
    "```\"><script>window.pwned=1</script>\n</code></pre><script>window.pwned=1</script>\n```",
    "**<style>@import 'http://127.0.0.1:9/x'</style>**", 
    "<math><mtext></style><img src=x onerror=window.pwned=1>",
    "</div></main><script>window.pwned=1</script>", "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "<meta http-equiv=refresh content='0;url=javascript:window.pwned=1'>", "<base href='http://127.0.0.1:9/'>",
    "<form action='javascript:window.pwned=1'><button autofocus onfocus=window.pwned=1>x</button></form>",
    "<details open ontoggle=window.pwned=1>", "https://a.b/<script>window.pwned=1</script>",
]  # fmt: skip


HOSTILE = "script,img,svg,iframe,style,form,meta,base,details,math,body"
FOCUSED = "(e => e.innerText || e.id || e.localName)(document.activeElement)"
SHOWN = ".pane:not([hidden])"


class Chat:
    """The page, and what a person does on it."""

    def __init__(self, browser: Any, address: str, api: ScriptedApi) -> None:
        self.browser, self.address, self.api = browser, address, api
        self.open()

    def open(self, query: str = "") -> None:
        self.browser.open(f"{self.address}/{query}")
        self.browser.holds("document.querySelector('.pane select')?.options.length > 1")

    def ask(self, text: str) -> None:
        self.browser.evaluate("document.querySelector('#prompt').focus()")
        self.browser.types(text)
        self.browser.presses("Enter")

    def answered(self, count: int) -> None:
        """Wait until so many answers are shown and none is being written."""
        self.browser.holds(
            f"document.querySelectorAll('{SHOWN} .assistant').length === {count} && "
            "!document.querySelector('[aria-busy=true]') && document.querySelector('#stop').hidden"
        )

    def says(self, role: str = "assistant") -> list[str]:
        found: list[str] = self.browser.evaluate(
            f"[...document.querySelectorAll('{SHOWN} .{role} .body')].map(e => e.innerText.trim())"
        )
        return found

    def press(self, role: str, key: str, number: int = -1) -> None:
        """A button of a turn: edit, again, before, next, copy."""
        self.browser.evaluate(
            f"[...document.querySelectorAll('{SHOWN} .{role} [data-key$=\" {key}\"]')].at({number}).click()"
        )


@pytest.fixture
def chat(browser: Any, tmp_path: Path) -> Iterator[Chat]:
    with site(tmp_path / "made") as (address, api, _):
        yield Chat(browser, address, api)


def test_an_answer_streams_and_says_how_it_went(chat: Chat, test_output: Path) -> None:
    chat.api.plans = [
        Plan([("python", "37"), ("python", "+45"), ("python_output", "82"), "37 + 45 ", "= 82."], 0.4)
    ]
    chat.ask("What is 37 + 45?")
    chat.browser.holds("document.querySelector('.assistant .tool pre')?.innerText.startsWith('37')")
    assert chat.browser.evaluate("document.querySelector('.assistant').getAttribute('aria-busy')") == "true"
    assert not chat.browser.evaluate("document.querySelector('#stop').hidden")
    chat.answered(1)
    tools = (
        "[...document.querySelectorAll('.tool')].map(e => [e.className, e.querySelector('pre').innerText])"
    )
    assert chat.browser.evaluate(tools) == [["tool python", "37+45"], ["tool python_output", "82"]]
    assert chat.says()[0].endswith("37 + 45 = 82.")
    assert "61 tokens/s" in chat.browser.text
    assert "context 133 of 256" in chat.browser.text
    asked = chat.api.asked[0]
    assert asked["model"] == "rl/demo@v1"
    assert asked["messages"] == [{"role": "user", "content": "What is 37 + 45?"}]
    assert (asked["temperature"], asked["top_k"], asked["max_tokens"]) == (0.5, 50, 256)
    assert "top_p" not in asked
    chat.browser.screenshot(test_output / "chat.png")
    chat.ask("And then?")
    chat.answered(2)
    parts = [
        {"type": "python", "text": "37+45"},
        {"type": "python_output", "text": "82"},
        {"type": "text", "text": "37 + 45 = 82."},
    ]
    assert chat.api.asked[1]["messages"][1] == {"role": "assistant", "content": parts}
    assert chat.browser.complaints() == []


def test_characters_and_lines_may_be_split_anywhere(chat: Chat) -> None:
    text = "naïve 🙂 👩‍👩‍👧 語 – fin"
    chat.api.plans = [Plan([text, " ✓"], cut=1)]
    chat.ask("?")
    chat.answered(1)
    assert chat.says() == [f"{text} ✓"]


def test_escape_stops_and_what_was_written_stays(chat: Chat) -> None:
    chat.api.plans = [Plan(["word "] * 400, 0.05)]
    chat.ask("go on")
    chat.browser.holds("document.querySelector('.assistant .body').innerText.includes('word word')")
    chat.browser.presses("Escape")
    chat.answered(1)
    assert "Stopped." in chat.says()[0]
    chat.browser._until(lambda: chat.api.left == 1, "the server is told")
    chat.api.plans = [Plan(["more"])]
    chat.ask("again")
    chat.answered(2)
    assert chat.api.asked[1]["messages"][1]["content"].startswith("word word")


def test_edits_and_new_answers_are_branches(chat: Chat) -> None:
    chat.api.plans = [Plan([name]) for name in ("one", "two", "three", "four")]
    chat.ask("first")
    chat.answered(1)
    chat.press("assistant", "again")
    chat.browser.holds("document.querySelector('.assistant .branches')?.innerText.includes('2/2')")
    chat.answered(1)
    assert chat.says() == ["two"]
    chat.press("assistant", "before")
    assert chat.says() == ["one"]
    chat.press("user", "edit")
    chat.browser.evaluate("document.querySelector('.editor textarea').select()")
    chat.browser.types("changed")
    chat.browser.presses("Enter")
    chat.browser.holds("document.querySelector('.user .branches')?.innerText.includes('2/2')")
    chat.answered(1)
    assert (chat.says("user"), chat.says()) == (["changed"], ["three"])
    assert chat.api.asked[2]["messages"] == [{"role": "user", "content": "changed"}]
    chat.press("user", "before")
    assert (chat.says("user"), chat.says()) == (["first"], ["one"])
    chat.open()
    assert (chat.says("user"), chat.says()) == (["first"], ["one"])
    chat.press("assistant", "next")
    assert chat.says() == ["two"]


def test_chats_are_kept_named_deleted_and_brought_back(chat: Chat) -> None:
    chat.ask("the first chat")
    chat.answered(1)
    chat.browser.presses("N", ctrl=True, shift=True)
    chat.browser.holds("document.querySelectorAll('.turn').length === 0")
    chat.ask("the second chat")
    chat.answered(1)
    chat.open()
    names = "[...document.querySelectorAll('.chat-name')].map(e => e.innerText)"
    assert chat.browser.evaluate(names) == ["the second chat", "the first chat"]
    assert chat.says("user") == ["the second chat"]
    chat.browser.click(".chat-name", "the first chat")
    assert chat.says("user") == ["the first chat"]
    chat.browser.evaluate("document.querySelector('[aria-label=\"Delete the first chat\"]').click()")
    assert chat.browser.evaluate(names) == ["the second chat"]
    chat.browser.click("#notice button", "Undo")
    assert chat.says("user") == ["the first chat"]


def test_what_was_being_written_when_the_page_went_away_is_interrupted(chat: Chat) -> None:
    chat.api.plans = [Plan(["word "] * 400, 0.05)]
    chat.ask("go on")
    chat.browser.holds("document.querySelector('.assistant .body').innerText.includes('word word')")
    chat.open()
    assert "Interrupted" in chat.says()[0]
    assert chat.says()[0].startswith("word word")


KEPT = "Object.keys(localStorage).length"


def test_what_another_tab_kept_or_deleted_is_not_overwritten(chat: Chat) -> None:
    chat.ask("ours")
    chat.answered(1)
    heard = "dispatchEvent(new StorageEvent('storage', {key, storageArea: localStorage}))"
    chat.browser.evaluate(
        "window.key = Object.keys(localStorage)[0]; window.old = localStorage[key];"
        f"localStorage[key] = old.replaceAll('It is ', 'Theirs: '); {heard}"
    )
    assert chat.says() == ["Theirs: 82."]
    chat.browser.evaluate(f"localStorage.removeItem(key); {heard}")
    assert chat.says() == []
    chat.browser.evaluate(f"localStorage[key] = old; {heard}; document.querySelector('.chat-name').click()")
    assert chat.says() == ["It is 82."]
    chat.browser.evaluate("delete localStorage[key]; dispatchEvent(new PageTransitionEvent('pagehide'))")
    assert chat.browser.evaluate(KEPT) == 0, "what this tab has not changed it does not bring back"


def test_a_damaged_chat_does_not_break_the_page(chat: Chat) -> None:
    chat.ask("hello")
    chat.answered(1)
    chat.browser.evaluate(
        "key = Object.keys(localStorage)[0]; kept = JSON.parse(localStorage[key]); kept.changed = 1e300;"
        "kept.panes[0].tree[0].rootChosen = 0.5; kept.panes[0].tree[0].chosen = 1e300;"
        "localStorage[key] = JSON.stringify(kept)"
    )
    chat.open("?model=sft/demo@v1")
    assert chat.browser.evaluate("document.querySelector('.pane select').value") == "sft/demo@v1"
    assert "?" not in chat.browser.address
    chat.open("?again")
    assert chat.says("user") == ["hello"]
    chat.ask("newer")
    chat.answered(2)
    assert chat.browser.complaints() == []


def test_an_edit_survives_the_end_of_an_answer_and_a_new_question(chat: Chat) -> None:
    editor = "document.querySelector('.editor textarea')"
    chat.api.plans = [Plan(["word "] * 400, 0.05), Plan(["short"])]
    chat.ask("first")
    chat.browser.holds("document.querySelector('.assistant .body').innerText.includes('word')")
    chat.press("user", "edit")
    chat.browser.holds("document.querySelector('#stop').hidden")
    chat.browser.holds("document.querySelector('#status').textContent === 'Stopped.'")
    chat.browser.evaluate(f"{editor}.select()")
    chat.browser.types("changed")
    chat.ask("second")
    chat.answered(2)
    assert chat.browser.evaluate(f"{editor}.value") == "changed"
    chat.browser.evaluate(f"{editor}.focus()")
    chat.browser.presses("Enter")
    chat.answered(1)
    assert (chat.says("user"), chat.says()) == (["changed"], ["short"])


def test_the_focus_stays_while_an_answer_is_written(chat: Chat) -> None:
    chat.ask("hello")
    chat.answered(1)
    chat.api.plans = [Plan(["word "] * 400, 0.05)]
    chat.browser.evaluate("document.querySelector('#prompt').value = 'go on'")
    chat.browser.evaluate("document.querySelector('#send').focus(); document.activeElement.click()")
    assert chat.browser.evaluate("document.activeElement.id") == "stop"
    chat.browser.evaluate("document.querySelector('.chat-name').focus(); window.row = document.activeElement")
    chat.browser.holds("(localStorage[Object.keys(localStorage)[0]].match(/word /g) ?? []).length > 30")
    assert chat.browser.evaluate("document.activeElement === row")
    chat.browser.evaluate("document.querySelector('#stop').focus(); document.activeElement.click()")
    chat.browser.holds("document.activeElement.id === 'send'")


def test_a_chat_left_while_it_is_answered_is_kept(chat: Chat) -> None:
    chat.api.plans = [Plan(["word "] * 400, 0.05)]
    chat.ask("go on")
    chat.browser.holds("document.querySelector('.assistant .body').innerText.includes('word word')")
    chat.browser.evaluate("window.shown = document.querySelector('.assistant .body').innerText.trim();"
                          "document.querySelector('#new').click()")  # fmt: skip
    assert chat.browser.evaluate("localStorage[Object.keys(localStorage)[0]].includes(shown)")
    chat.browser.click(".chat-name", "go on")
    assert "Stopped." in chat.says()[0]


def test_where_nothing_can_be_kept_it_is_said(chat: Chat) -> None:
    chat.ask("hello")
    chat.answered(1)
    chat.browser.evaluate("import('/static/storage.js').then(s => window.exported = s.exported(s.all())); 0")
    exported = chat.browser.holds("window.exported")
    chat.browser.evaluate(
        "for (const name of ['setItem', 'removeItem']) Storage.prototype[name] = () => { throw Error(name) }"
    )
    upload(chat, exported)
    chat.browser.sees("Imported 0 chats. The browser has no room for 1 more.")
    chat.browser.evaluate("document.querySelector('[aria-label=\"Delete hello\"]').click()")
    chat.browser.click("#notice button", "Undo")
    assert chat.says("user") == ["hello"]
    chat.browser.sees("The browser keeps no more chats")
    assert chat.browser.complaints() == []


def test_an_export_can_be_imported_and_anything_else_not(chat: Chat) -> None:
    chat.ask("keep me")
    chat.answered(1)
    chat.browser.evaluate("import('/static/storage.js').then(s => window.exported = s.exported(s.all())); 0")
    exported = chat.browser.holds("window.exported")
    assert json.loads(exported)["chats"][0]["title"] == "keep me"
    upload(chat, exported)
    chat.browser.sees("Imported 1 chat.")
    names = "[...document.querySelectorAll('.chat-name')].map(e => e.innerText)"
    assert chat.browser.evaluate(names) == ["keep me", "keep me"], (
        "under a name of its own, nothing is overwritten"
    )
    chat.browser.evaluate("document.querySelectorAll('.chat-name:not([aria-current])')[0].click()")
    assert (chat.says("user"), chat.says()) == (["keep me"], ["It is 82."])
    lost, named = json.loads(exported), json.loads(exported)
    lost["chats"][0]["panes"][0]["tree"][0]["parent"] = "nobody"
    named["chats"][0]["panes"][0]["tree"][0]["id"] = '"] script'
    for text, said in (
        ("{", "it is no JSON"), ("[]", "it is no export"),
        (json.dumps(lost), "a turn has no place"), (json.dumps(named), "a turn has no place"),
    ):  # fmt: skip
        upload(chat, text)
        chat.browser.sees(said)
        chat.browser.click("#notice [aria-label=Close]")


def upload(chat: Chat, text: str) -> None:
    chat.browser.evaluate(
        f"""(() => {{ const files = new DataTransfer();
        files.items.add(new File([{json.dumps(text)}], "chats.json"));
        const field = document.querySelector("#file"); field.files = files.files;
        field.dispatchEvent(new Event("change")); }})()"""
    )


def test_two_models_answer_side_by_side(chat: Chat, test_output: Path) -> None:
    chat.browser.click("#compare")
    chat.api.plans = [Plan(["left"]), Plan(["right"])]
    chat.ask("Both?")
    chat.answered(2)
    assert sorted(chat.says()) == ["left", "right"]
    assert sorted(asked["model"] for asked in chat.api.asked) == ["rl/demo@v1", "sft/demo@v1"]
    chat.browser.screenshot(test_output / "chat-two.png")
    chat.open()
    assert sorted(chat.says()) == ["left", "right"]


def test_parameters_and_commands_reach_the_server(chat: Chat) -> None:
    chat.ask("/temperature 1.25")
    chat.browser.sees("The temperature is 1.25.")
    chat.ask("/topk 7")
    chat.browser.sees("The top-k is 7.")
    chat.ask("/temperature 9")
    chat.browser.sees("a number from 0 to 2")
    chat.ask("/temprature 1")
    chat.browser.sees("There is no command /temprature. Did you mean /temperature?")
    assert chat.browser.evaluate("document.querySelector('#prompt').value") == "/temprature 1"
    chat.browser.evaluate("document.querySelector('#prompt').value = ''")
    chat.ask("/help")
    chat.browser.sees("/clear")
    chat.ask("/system Be brief.")
    for name, value in (("stop", "END"), ("seed", "7"), ("min_p", "0.1")):
        chat.browser.evaluate(
            f"document.querySelector('#settings [name={name}]').value = '{value}';"
            "document.querySelector('#settings').dispatchEvent(new Event('input'))"
        )
    chat.ask("hello")
    chat.answered(1)
    (asked,) = chat.api.asked
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    wanted = {"temperature": 1.25, "top_k": 7, "stop": ["END"], "seed": 7, "min_p": 0.1}
    assert wanted.items() <= asked.items()
    chat.ask("/clear")
    chat.browser.holds("document.querySelectorAll('.turn').length === 0")
    chat.ask("hello")
    chat.answered(1)
    held = "{key: 'n', ctrlKey: true, altKey: true, bubbles: true, cancelable: true}"
    chat.browser.evaluate(
        f"document.querySelector('#prompt').dispatchEvent(new KeyboardEvent('keydown', {held}))"
    )
    assert chat.says("user") == []


def test_a_message_may_begin_with_a_slash(chat: Chat) -> None:
    for number, text in enumerate(("// what", "/usr/bin/env", "/tmp", " /temp"), 1):
        chat.ask(text)
        chat.answered(number)
    assert [asked["messages"][-1]["content"] for asked in chat.api.asked] == [
        "// what", "/usr/bin/env", "/tmp", " /temp",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan([], status=429, error="the queue is full"), "the queue is full. Try again in 3 s."),
        (Plan([], status=400, error="temperature is too high"), "temperature is too high"),
        (Plan(["half "], error="the engine broke"), "the engine broke"),
        (Plan(["half "], finish=""), "The connection ended before the answer did."),
        (Plan(["half "], finish="", torn=True), "The connection ended before the answer did."),
    ],
)
def test_a_failure_says_so_and_can_be_tried_again(plan: Plan, said: str, chat: Chat) -> None:
    chat.api.plans = [plan, Plan(["better"])]
    chat.ask("?")
    chat.answered(1)
    chat.browser.sees(said)
    chat.press("assistant", "again")
    chat.browser.holds("!!document.querySelector('.assistant .branches')")
    chat.answered(1)
    assert chat.says() == ["better"]


def test_what_was_left_out_or_cut_is_said(chat: Chat) -> None:
    chat.api.plans = [Plan(["x"], stats={"messages_dropped": 4}, finish="length")]
    chat.ask("?")
    chat.answered(1)
    assert "the 4 oldest messages could not be sent" in chat.says()[0]
    assert "reached the most tokens" in chat.says()[0]
    chat.api.plans = [Plan(["x"], stats={"ended": "deadline"}, finish="length")]
    chat.ask("?")
    chat.answered(2)
    assert "took too long" in chat.says()[1]


def test_markdown_becomes_elements(chat: Chat) -> None:
    chat.api.plans = [Plan([MARKDOWN[i : i + 7] for i in range(0, len(MARKDOWN), 7)])]
    chat.ask("?")
    chat.answered(1)
    tags = "[...document.querySelectorAll('.assistant .body *')].map(e => e.localName)"
    assert {"strong", "em", "code", "a", "ol", "li", "ul", "blockquote", "pre"} <= set(
        chat.browser.evaluate(tags)
    )
    link = chat.browser.evaluate("(a => [a.href, a.rel])(document.querySelector('.body a'))")
    assert link == ["https://docs.python.org/3/", "noopener noreferrer nofollow"]
    assert chat.browser.evaluate("document.querySelector('.body li li').innerText") == "inside"
    assert (
        chat.browser.evaluate("document.querySelector('.body pre').innerText")
        == "def add(a, b):\n    return a + b"
    )
    assert "snake_case_name" in chat.says()[0]
    assert "code <b>" in chat.says()[0]


@pytest.mark.criterion("T78")
def test_a_hostile_answer_stays_text(chat: Chat) -> None:
    chat.api.plans = [Plan([payload + "\n\n"]) for payload in PAYLOADS] + [Plan(PAYLOADS)]
    before = chat.browser.evaluate("document.querySelectorAll('*').length")
    chat.ask(PAYLOADS[0])
    chat.answered(1)
    for number in range(1, len(PAYLOADS) + 1):
        chat.press("assistant", "again")
        chat.browser.holds(
            f"document.querySelector('.assistant .branches')?.innerText.includes('/{number + 1}')"
        )
        chat.answered(1)
        elements = f"document.querySelectorAll('.turn .body :is({HOSTILE})').length"
        assert chat.browser.evaluate(elements) == 0, PAYLOADS[number - 1]
        links = "[...document.querySelectorAll('.turn .body a')].every(a => /^https?:/.test(a.href))"
        assert chat.browser.evaluate(links)
    assert "<img src=x onerror=window.pwned=1>" in chat.says()[0]
    chat.open()
    assert chat.browser.evaluate("window.pwned") is None
    assert chat.browser.complaints() == []
    assert chat.browser.evaluate("document.querySelectorAll('*').length") > before


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_small_screen_in_light_and_dark(dark: bool, chat: Chat, test_output: Path) -> None:
    chat.api.plans = [Plan([MARKDOWN, "a" * 300, "\n\n```\n", "long line " * 40, "\n```"])]
    chat.browser.looks(width=320, height=640, dark=dark)
    chat.ask("a question that is as long as a line on a small screen")
    chat.answered(1)
    assert chat.browser.evaluate("document.documentElement.scrollWidth") <= 320
    assert chat.browser.evaluate(
        "document.querySelector('.page').scrollWidth <= document.querySelector('.page').clientWidth"
    )
    assert chat.browser.evaluate("document.querySelector('#send').getBoundingClientRect().right") <= 320
    background = chat.browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 22, 26)" if dark else "rgb(251, 250, 248)")
    chat.browser.screenshot(test_output / f"chat-320-{'dark' if dark else 'light'}.png")


def test_it_is_used_by_keyboard_alone(chat: Chat) -> None:
    chat.ask("hello")
    chat.answered(1)
    reached = set()
    for _ in range(25):
        chat.browser.presses("Tab")
        reached.add(chat.browser.evaluate(FOCUSED))
    assert {"Skip to the content", "New chat", "Edit", "Regenerate", "Models", "prompt"} <= reached
