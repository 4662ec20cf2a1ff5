"""The real command, the real page, a real browser."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import G2P, REPOSITORY, TINY_RUN_LIMIT_S, TinyRun, g2p_environment
from tests.demo.browser import find_chromium
from tests.node import INSTALLATION_LIMIT_S

#: ONNX Runtime for browsers is fetched once for a clone, and by nothing but the command itself.
RUNTIME_OVERRIDE = f"demo.runtime.directory={REPOSITORY / 'build' / 'onnxruntime'}"

#: Seconds for what takes one of them on an idle machine.
PATIENCE_S = 120
PATIENCE_MS = 1000 * PATIENCE_S


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the first test that needs them wait for the trained model and the installations."""
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder):
            limit = TINY_RUN_LIMIT_S + 2 * INSTALLATION_LIMIT_S
            item.add_marker(pytest.mark.timeout(limit), append=False)


@contextmanager
def demo(*arguments: str | Path, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``g2p demo`` on a free port; give the page's address and the process."""
    process = subprocess.Popen(
        [G2P, "demo", "--port", "0", RUNTIME_OVERRIDE, *arguments],
        cwd=REPOSITORY,
        env=g2p_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a shell started in the background ignore Ctrl-C, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            found = re.search(r"the page is at (http://127\.0\.0\.1:\d+/)", line)
            if found is not None:
                yield found[1], process
                break
        else:
            pytest.fail("".join(lines))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The browser, without a window.

    For these tests alone: while it runs, so does an event loop, beside which no other can.
    """
    found = find_chromium()
    with sync_playwright() as playwright:
        # Nothing but the page of this clone is ever shown, and root has no sandbox.
        browser = playwright.chromium.launch(
            executable_path=found.program,
            args=["--no-sandbox"],
            env={**g2p_environment(), **found.variables},
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def demo_url(tiny_run: TinyRun) -> Iterator[str]:
    """The address of the page, with the float32 model, which says what Python says."""
    with demo("--model", tiny_run.float32_model) as (url, _):
        yield url


@pytest.fixture(scope="package")
def scripts(chromium: Browser, demo_url: str) -> Iterator[Page]:
    """A page where the demo's modules can be imported, without a model."""
    context = chromium.new_context()
    opened = context.new_page()
    opened.goto(demo_url + "style.css")
    yield opened
    context.close()


@pytest.fixture
def page(chromium: Browser, demo_url: str) -> Iterator[Page]:
    """The page with its model loaded; whatever it throws or complains of fails the test."""
    with open_page(chromium, demo_url) as opened:
        wait_for_model(opened)
        yield opened


@contextmanager
def open_page(browser: Browser, url: str, **options) -> Iterator[Page]:
    """Open an address in a context of its own."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.goto(url)
    yield opened
    context.close()
    assert complaints == []


def wait_for_model(page: Page) -> None:
    """Wait until the page says that its model is ready."""
    expect(page.locator("#model-status")).to_contain_text("Ready", timeout=PATIENCE_MS)


def wait_for_answers(page: Page, words: int) -> None:
    """Wait until so many words are answered."""
    counted = "1 word in" if words == 1 else f"{words:,} words in"
    expect(page.locator("#summary")).to_contain_text(counted, timeout=PATIENCE_MS)


def type_words(page: Page, *words: str) -> None:
    """Put words into the field, as pasting does, and wait for their answers."""
    page.locator("#summary").evaluate("element => element.textContent = ''")
    page.locator("#words").evaluate(
        "(element, text) => { element.value = text; element.dispatchEvent(new Event('input')); }",
        "\n".join(words),
    )
    wait_for_answers(page, len(words))
