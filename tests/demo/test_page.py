"""The page in a browser: what it says, what it does not send, and whether everybody can use it."""

import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import onnx
import pytest
from onnx import TensorProto, helper
from playwright.sync_api import Browser, Page, Worker, expect

from grapheme_to_phoneme import Pronouncer
from grapheme_to_phoneme.inference.metadata import DESCRIPTION_PROPERTY, FORMAT_PROPERTY
from grapheme_to_phoneme.inference.word_lists import format_lines
from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.serving.ports import unused_port
from tests.conftest import REPOSITORY, TinyRun, run_g2p
from tests.demo.conftest import (
    PATIENCE_MS,
    PATIENCE_S,
    RUNTIME_OVERRIDE,
    demo,
    open_page,
    type_words,
    wait_for_answers,
    wait_for_model,
)
from tests.node import install_packages

#: Odd spellings: accents, apostrophes, other scripts, one beyond the basic plane, no word at all.
ODDITIES = [
    "Naïve",
    "naı̈ve",
    "DON\u2019T",
    "sto😀ne",
    "日本",
    "two words",
    "\u00adsoft\u00adhyphen",
    "İstanbul",
    "ΌΣΟΣ",
    "\x1fstone\x85",
    "-'.",
    "a" * 60,
    "stone" * 60,
]
GOLDEN_WORDS = 300

AXE = "axe-core@4.14.1"
AXE_FOLDER = REPOSITORY / "build" / "axe" / AXE.partition("@")[2]

#: Asks the page's own worker script, as the page does, and returns all of its answers.
ASKING_PROGRAM = """
async ([model, words, count]) => {
  const worker = new Worker("worker.js", { type: "module" });
  const next = (kind) =>
    new Promise((resolve, reject) => {
      const listen = ({ data }) => {
        if (data.kind === "failed") reject(new Error(data.message));
        if (data.kind !== kind) return;
        worker.removeEventListener("message", listen);
        resolve(data);
      };
      worker.addEventListener("message", listen);
    });
  let ready = next("loaded");
  worker.postMessage({ kind: "load", id: 1, url: new URL(model, location.href).href });
  await ready;
  const answers = [];
  while (answers.length < words.length) {
    const some = words.slice(answers.length, answers.length + 100);
    ready = next("answers");
    worker.postMessage({ kind: "pronounce", id: answers.length + 2, words: some, count });
    answers.push(...(await ready).answers);
  }
  worker.terminate();
  return answers;
}
"""


@pytest.fixture(scope="module")
def words(tiny_run: TinyRun) -> list[str]:
    """Real words that the model did not learn from, and odd ones."""
    return [*list(group_by_spelling(tiny_run.lexicon.dev))[:GOLDEN_WORDS], *ODDITIES]


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which finds what keeps people from using a page."""
    program = AXE_FOLDER / "node_modules" / "axe-core" / "axe.min.js"
    if not program.is_file():
        install_packages(AXE_FOLDER, AXE)
    return program.read_text(encoding="utf-8")


# What it says


@pytest.mark.parametrize("count", [1, 3])
def test_page_says_what_python_says(
    page: Page, tiny_run: TinyRun, words: list[str], count: int
) -> None:
    answers = page.evaluate(ASKING_PROGRAM, ["model.onnx", words, count])
    expected = Pronouncer(tiny_run.float32_model).pronounce(words, count, with_alignment=True)
    assert [answer["word"] for answer in answers] == words
    for answer, known in zip(answers, expected, strict=True):
        assert tuple(answer["unknownCharacters"]) == known.unknown_characters
        ranked = (known, *known.alternatives) if known.phones or known.probability else ()
        assert len(answer["choices"]) == len(ranked)
        for choice, best in zip(answer["choices"], ranked, strict=True):
            assert tuple(choice["phones"]) == best.phones
            assert choice["probability"] == pytest.approx(best.probability, abs=1e-3)
            alignment = [(letter, tuple(phones)) for letter, phones in choice["alignment"]]
            assert tuple(alignment) == best.alignment


def test_saved_lexicon_is_what_infer_prints(
    page: Page, tiny_run: TinyRun, words: list[str]
) -> None:
    page.get_by_label("Pronunciations a word").select_option("1")
    type_words(page, *words)
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as lexicon").click()
    assert saving.value.suggested_filename == "lexicon.tsv"
    completed = run_g2p(
        "infer",
        "--model",
        tiny_run.float32_model,
        "--input",
        "-",
        standard_input="\n".join(words).encode(),
    )
    assert Path(saving.value.path()).read_bytes() == completed.stdout


def test_single_word_is_shown_with_everything(page: Page, tiny_run: TinyRun) -> None:
    page.get_by_label("Words, one a line").fill("Stöne")
    wait_for_answers(page, 1)
    pronouncer = Pronouncer(tiny_run.float32_model)
    [answer] = pronouncer.pronounce(["Stöne"], 3, with_alignment=True)
    choices = page.get_by_role("list", name="Pronunciations of Stöne").locator("> li")
    expect(choices).to_have_count(3)
    for i, known in enumerate((answer, *answer.alternatives)):
        choice = choices.nth(i)
        expect(choice.locator(".phones")).to_have_text(" ".join(known.phones))
        shown = choice.locator(".probability").inner_text()
        percent = 100 * known.probability
        assert float(shown.strip("< %")) == pytest.approx(percent, abs=max(0.1, percent / 50))
        cells = choice.get_by_role("list", name="Letters and their phones").locator("> li")
        assert [cells.nth(j).locator(".letter").inner_text() for j in range(cells.count())] == [
            letter for letter, _ in known.alignment
        ]
        codes = [" ".join(phones) for _, phones in known.alignment if phones]
        assert choice.locator(".code").all_inner_texts() == codes
    expect(page.get_by_text("The model does not know “ö” U+00F6")).to_be_visible()


@pytest.mark.parametrize(
    ("phones", "expected"),
    [
        ("F AH0 T AA1 G R AH0 F ER0", "fəˈtɑɡɹəfɚ"),
        ("K UW2 B ER0 N EH1 T IY0 Z", "ˌkubɚˈnɛtiz"),
        ("EH2 K S T R AH0 ER1", "ˌɛkstɹəˈɝ"),
        ("IH0 K S T R IY1 M", "ɪkˈstɹim"),
        ("S IH1 NG ER0", "ˈsɪŋɚ"),
        ("AH0 NG AO1", "əŋˈɔ"),
        ("K AE1 T", "kæt"),
        ("M AE N ER", "mænɝ"),
        ("S S T", "sst"),
        ("", ""),
    ],
)
def test_ipa_is_a_dictionarys(scripts: Page, phones: str, expected: str) -> None:
    program = "async (phones) => (await import('./ipa.js')).toIpa(phones)"
    assert scripts.evaluate(program, phones.split()) == expected


def test_ipa_knows_every_phone_of_the_model_and_no_other(scripts: Page, tiny_run: TinyRun) -> None:
    program = """async (phones) => {
      const { phoneToIpa } = await import("./ipa.js");
      return phones.map((phone) => phoneToIpa(phone) ?? null);
    }"""
    phones = Pronouncer(tiny_run.float32_model).metadata.phones
    symbols = scripts.evaluate(program, list(phones))
    assert len(phones) == 39 and len(set(symbols)) == 39 and None not in symbols
    assert scripts.evaluate(program, ["ə", "B1", "A", "constructor", "XX1"]) == [None] * 5


def test_list_is_answered_row_by_row(page: Page, words: list[str]) -> None:
    many = words[:250]
    type_words(page, *many)
    rows = page.locator("#answers > li")
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="Show 100 more of 150").click()
    expect(rows).to_have_count(200)
    expect(rows.nth(100).locator("summary")).to_be_focused()
    page.get_by_role("button", name="Show 50 more of 50").click()
    expect(rows).to_have_count(250)
    assert page.locator("#answers .spelling bdi").all_inner_texts() == many
    expect(page.locator("#more")).to_be_hidden()
    # Closed rows are drawn when they are opened.
    assert rows.nth(3).locator(".alignment").count() == 0
    rows.nth(3).locator("summary").click()
    expect(rows.nth(3).locator(".alignment").first).to_be_visible()


def test_newer_words_end_older_ones(page: Page, words: list[str]) -> None:
    page.locator("#words").evaluate(
        "(element, text) => { element.value = text; element.dispatchEvent(new Event('input')); }",
        "\n".join(f"{word}{i}" for i in range(20) for word in words),
    )
    expect(page.locator("#summary")).to_contain_text(" of ", timeout=PATIENCE_MS)
    type_words(page, "stone")
    expect(page.locator("#answers > li")).to_have_count(1)
    page.get_by_label("Words, one a line").fill("")
    expect(page.locator("#answers > li")).to_have_count(0)
    expect(page.locator("#actions")).to_be_hidden()


def test_words_are_text_and_nothing_else(page: Page) -> None:
    word = "<img src=x onerror=alert(1)>\t'\"&amp;"
    type_words(page, word)
    assert page.locator("#answers .spelling bdi").text_content() == word
    assert page.locator("#answers img").count() == 0


def test_copied_lines_are_those_of_the_lexicon(
    chromium: Browser, demo_url: str, tiny_run: TinyRun
) -> None:
    options = {"permissions": ["clipboard-read", "clipboard-write"]}
    with open_page(chromium, demo_url, **options) as page:
        wait_for_model(page)
        page.get_by_label("Pronunciations a word").select_option("1")
        type_words(page, "stone", "rest")
        page.get_by_role("button", name="Copy lines").click()
        expect(page.locator("#summary")).to_have_text("2 lines copied")
        copied = page.evaluate("() => navigator.clipboard.readText()")
    answers = Pronouncer(tiny_run.float32_model).pronounce(["stone", "rest"])
    assert copied == "".join(format_lines(answer, 1) for answer in answers)


# Models


def wait_for_size(page: Page, path: Path) -> None:
    """Wait until a model of that size is loaded."""
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    expect(page.locator("#model-status")).to_have_text(
        f"Ready: American English, {size}", timeout=PATIENCE_MS
    )


def choose_model(page: Page, path: Path) -> None:
    """Give the page a model file, and wait until it is loaded."""
    page.locator("#model-file").set_input_files(path)
    wait_for_size(page, path)


def test_loading_is_shown_step_by_step(chromium: Browser, demo_url: str) -> None:
    with open_page(chromium, "about:blank") as page:
        page.add_init_script("""
            window.addEventListener("DOMContentLoaded", () => {
              window.said = [];
              const status = document.getElementById("model-status");
              const observer = new MutationObserver(() => window.said.push(status.textContent));
              observer.observe(status, { childList: true, characterData: true, subtree: true });
            });
        """)
        page.goto(demo_url)
        wait_for_model(page)
        said = "\n".join(page.evaluate("() => window.said"))
        assert re.fullmatch(
            r"Loading ONNX Runtime, 14 MB\n"
            r"Reading the model, \d+ MB\n"
            r"Starting the model\n"
            r"Ready: American English, \d+\.\d MB",
            said,
        )
        expect(page.locator("#model-progress")).to_be_hidden()


def test_another_model_can_be_chosen(page: Page, tiny_run: TinyRun) -> None:
    type_words(page, "stone")
    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Choose another model file").click()
    choosing.value.set_files(tiny_run.int8_model)
    wait_for_size(page, tiny_run.int8_model)
    page.get_by_text("About this model").click()
    facts = page.locator("#model-facts").inner_text()
    for fact in ("en-US", "arpabet", "29 letters, 39 phones", "int8", "lexicon, 8,000 words"):
        assert fact in facts
    # The words in the field are asked again, of the new model.
    wait_for_answers(page, 1)


def test_int8_model_says_what_python_says(page: Page, tiny_run: TinyRun, words: list[str]) -> None:
    choose_model(page, tiny_run.int8_model)
    page.get_by_label("Pronunciations a word").select_option("1")
    type_words(page, *words)
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as lexicon").click()
    lines = Path(saving.value.path()).read_bytes().decode().split("\n")
    answers = Pronouncer(tiny_run.int8_model).pronounce(words)
    expected = [format_lines(answer, 1).rstrip("\n") for answer in answers]
    same = [line == known for line, known in zip(lines, [*expected, ""], strict=True)]
    # Products of bytes are rounded by each processor's own instructions.
    assert sum(same) > 0.99 * len(words)


def write_with_properties(source: Path, target: Path, properties: dict[str, str]) -> Path:
    """Write a model file anew, with other metadata properties."""
    model = onnx.load(source)
    del model.metadata_props[:]
    helper.set_model_props(model, properties)
    onnx.save(model, target)
    return target


def wrong_files(tiny_run: TinyRun, folder: Path) -> dict[str, tuple[Path, str]]:
    """Return files that are no models, with what the page must say of each."""
    path = tiny_run.float32_model
    content = path.read_bytes()
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    value = helper.make_tensor_value_info("value", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Abs", ["value"], ["result"])], "other", [value], [result]
    )
    other = folder / "other.onnx"
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[opset]), other)
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "words.txt").write_text("stone\nrest\n")
    (folder / "half.onnx").write_bytes(content[: len(content) // 2])
    changed = {**metadata, FORMAT_PROPERTY: "99"}
    broken = {**metadata, DESCRIPTION_PROPERTY: "{"}
    unknown = {
        **metadata,
        DESCRIPTION_PROPERTY: metadata[DESCRIPTION_PROPERTY].replace('"lower"', '"title"'),
    }
    hollow = write_with_properties(other, folder / "hollow.onnx", metadata)
    spoilt = folder / "spoilt.onnx"
    spoilt.write_bytes(content.replace(b"LabelEncoder", b"LabelDecoder"))
    return {
        "empty": (folder / "empty.onnx", "empty.onnx is no ONNX file: choose a model.onnx"),
        "text": (folder / "words.txt", "words.txt is no ONNX file: choose a model.onnx"),
        "half": (folder / "half.onnx", "half.onnx is not whole: copy it again"),
        "other": (other, "other.onnx is an ONNX file, but no model that “g2p export” wrote"),
        "version": (
            write_with_properties(path, folder / "version.onnx", changed),
            "version.onnx has format version 99, this page reads 1: export the model again",
        ),
        "broken": (
            write_with_properties(path, folder / "broken.onnx", broken),
            "broken.onnx is damaged: its description cannot be read",
        ),
        "unknown": (
            write_with_properties(path, folder / "unknown.onnx", unknown),
            "unknown.onnx is damaged: its description cannot be read",
        ),
        "hollow": (hollow, "hollow.onnx cannot be used: it has no words, beam_size"),
        "spoilt": (spoilt, "spoilt.onnx cannot be loaded: "),
    }


def test_wrong_files_are_refused_in_one_line_each(
    page: Page, tiny_run: TinyRun, tmp_path: Path
) -> None:
    status = page.locator("#model-status").inner_text()
    for path, message in wrong_files(tiny_run, tmp_path).values():
        page.locator("#model-file").set_input_files(path)
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text(message, timeout=PATIENCE_MS)
        assert "\n" not in alert.inner_text() and len(alert.inner_text()) < 300
        # The former model is still there and answers.
        expect(page.locator("#model-status")).to_have_text(status)
        expect(page.locator("#model-progress")).to_be_hidden()
        type_words(page, "stone", "rest")
    page.locator("#model-file").set_input_files(tiny_run.float32_model)
    expect(page.get_by_role("alert")).to_have_count(0)
    wait_for_model(page)


def test_phones_of_another_notation_are_shown_as_they_are(
    page: Page, tiny_run: TinyRun, tmp_path: Path
) -> None:
    properties = {
        entry.key: entry.value.replace('"arpabet"', '"ipa"').replace('"en-US"', '"de"')
        for entry in onnx.load(tiny_run.float32_model).metadata_props
    }
    path = write_with_properties(tiny_run.float32_model, tmp_path / "ipa.onnx", properties)
    expect(page.get_by_role("group", name="Examples")).to_be_visible()
    page.locator("#model-file").set_input_files(path)
    expect(page.locator("#model-status")).to_contain_text("German", timeout=PATIENCE_MS)
    type_words(page, "stone")
    assert page.locator("#answers .ipa").count() == 0
    [answer] = Pronouncer(path).pronounce(["stone"], 3)
    expect(page.locator(".choices .phones").first).to_have_text(" ".join(answer.phones))
    # English examples are for models of English.
    expect(page.get_by_role("group", name="Examples")).to_be_hidden()
    assert page.locator("#words").get_attribute("lang") == "de"


# Nothing is sent anywhere


class RecordingHandler(BaseHTTPRequestHandler):
    """Writes down what it is asked for."""

    requests: list[str] = []

    def do_GET(self) -> None:
        """Answer anything, to anybody."""
        self.requests.append(self.path)
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_nothing_is_sent_anywhere(chromium: Browser, demo_url: str) -> None:
    requests = []
    with open_page(chromium, "about:blank") as page:
        page.context.on("request", lambda request: requests.append(request))
        page.goto(demo_url)
        wait_for_model(page)
        loaded = len(requests)
        type_words(page, "secretword", "stone")
        page.locator("summary").last.click()
        page.get_by_role("button", name="kubernetes").click()
        wait_for_answers(page, 1)
        assert {request.method for request in requests} == {"GET"}
        assert all(request.url.startswith(demo_url) for request in requests)
        assert {"model.onnx", "worker.js", "ort-wasm-simd-threaded.wasm"} <= {
            request.url.rpartition("/")[2] for request in requests
        }
        assert [request.url for request in requests[loaded:]] == []


def test_browser_keeps_page_and_worker_from_other_servers(
    chromium: Browser, demo_url: str
) -> None:
    fetching = (
        "async (url) => { try { await fetch(url); return 'sent'; } catch { return 'refused'; } }"
    )
    with HTTPServer(("127.0.0.1", 0), RecordingHandler) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}/"
        context = chromium.new_context()
        blank = context.new_page()
        # The check can fail: a page without a policy does reach the other server.
        assert blank.evaluate(fetching, url + "blank") == "sent"
        page = context.new_page()
        page.goto(demo_url)
        wait_for_model(page)
        [worker] = page.workers
        assert isinstance(worker, Worker)
        assert page.evaluate(fetching, url + "page") == "refused"
        assert worker.evaluate(fetching, url + "worker") == "refused"
        context.close()
        other.shutdown()
    assert RecordingHandler.requests == ["/blank"]


# For everybody


def violations(page: Page, axe: str) -> list[str]:
    """Return what axe-core objects to."""
    page.evaluate(axe)
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{item['id']}: {item['help']}: {[node['html'] for node in item['nodes']]}"
        for item in found
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible(
    chromium: Browser, demo_url: str, axe: str, scheme: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.onnx"
    wrong.write_text("no model")
    with open_page(chromium, demo_url, color_scheme=scheme) as page:
        wait_for_model(page)
        assert violations(page, axe) == []
        page.get_by_text("About this model").click()
        type_words(page, "naïve")
        assert violations(page, axe) == []
        type_words(page, *(f"word{'s' * i}" for i in range(150)))
        page.locator("#answers summary").first.click()
        page.locator("#model-file").set_input_files(wrong)
        expect(page.get_by_role("alert")).to_be_visible()
        assert violations(page, axe) == []
        # The check can fail.
        page.locator("label[for=words]").evaluate("element => element.remove()")
        assert any(item.startswith("label:") for item in violations(page, axe))


def test_page_is_used_by_keyboard_alone(page: Page) -> None:
    def focused() -> str:
        return page.evaluate(
            "() => document.activeElement.id || document.activeElement.textContent.trim()"
        )

    order = []
    for _ in range(8):
        page.keyboard.press("Tab")
        order.append(focused())
    examples = page.get_by_role("group", name="Examples").get_by_role("button").all_inner_texts()
    assert order == ["choose-model", "About this model", "words", *examples, "count"]
    for _ in range(5):
        page.keyboard.press("Shift+Tab")
    page.keyboard.type("stone")
    page.keyboard.press("Enter")
    page.keyboard.type("rest")
    wait_for_answers(page, 2)
    for _ in range(8):
        page.keyboard.press("Tab")
    row = page.locator("#answers details").first
    expect(row.locator("summary")).to_be_focused()
    assert row.locator("summary").evaluate(
        "element => getComputedStyle(element).outlineStyle"
    ) != ("none")
    page.keyboard.press("Enter")
    expect(row.locator(".alignment").first).to_be_visible()


def test_status_and_problems_are_announced(page: Page) -> None:
    for name in ("summary", "model-status"):
        assert page.locator(f"#{name}").get_attribute("role") == "status"
    for name in ("problem", "model-problem"):
        assert page.locator(f"#{name}").get_attribute("role") == "alert"
    type_words(page, "bone")
    cells = page.get_by_role("list", name="Letters and their phones").first.locator("li")
    said = [re.sub(r"\s+", " ", text) for text in cells.all_text_contents()]
    assert said[0].startswith("b gives b")
    assert said[-1].startswith("e is silent")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_runs_out_of_the_screen(
    chromium: Browser, demo_url: str, words: list[str], width: int
) -> None:
    with open_page(chromium, demo_url, viewport={"width": width, "height": 800}) as page:
        wait_for_model(page)
        type_words(page, *ODDITIES, *words[:20])
        for i in range(len(ODDITIES)):
            page.locator("#answers summary").nth(i).click()
        excess = (
            "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert page.evaluate(excess) <= 0
        type_words(page, "a" * 300)
        assert page.evaluate(excess) <= 0


# Any file server


def test_written_page_works_from_any_file_server(
    chromium: Browser, tiny_run: TinyRun, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    completed = run_g2p("demo", "--model", tiny_run.model, "--output", site, RUNTIME_OVERRIDE)
    assert completed.returncode == 0, completed.stderr.decode()
    port = unused_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=site,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert "Serving HTTP" in server.stdout.readline()
        with open_page(chromium, f"http://127.0.0.1:{port}/") as page:
            wait_for_model(page)
            type_words(page, "stone", "rest")
        (site / "model.onnx").unlink()
        context = chromium.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.get_by_role("alert")).to_contain_text(
            "the server has no model (status 404)", timeout=PATIENCE_MS
        )
        page.locator("#words").fill("stone")
        expect(page.locator("#summary")).to_have_text("Waiting for the model")
        page.locator("#model-file").set_input_files(tiny_run.model)
        wait_for_answers(page, 1)
        context.close()
    finally:
        server.terminate()
        server.communicate(timeout=PATIENCE_S)


def test_stopped_server_is_told(chromium: Browser, tiny_run: TinyRun) -> None:
    with demo("--model", tiny_run.model) as (url, process):
        context = chromium.new_context()
        page = context.new_page()
        page.goto(url)
        wait_for_model(page)
        process.terminate()
        process.wait(timeout=PATIENCE_S)
        # What is loaded goes on working.
        type_words(page, "stone")
        context.close()
