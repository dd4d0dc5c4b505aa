"""The page in a real browser: headless Chromium, driven by Selenium.

Skipped where Chromium, its driver or Selenium (extra: browser) is missing. With THRIFTY_SCREENSHOT
set to a file name, the picture in the documentation is taken anew.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from label_client import Client, ask, lines, process

from thrifty.labelling import left_side

pytest.importorskip("selenium", reason="the extra `browser` (Selenium) is not installed")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium or its driver (chromedriver) is not installed"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
Serve = Callable[..., Client]


class Page:
    """A browser, and what a person sees and does in it."""

    def __init__(self, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1100,800"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, port: int) -> None:
        self.driver.get(f"http://127.0.0.1:{port}/")
        self.until(lambda: "of" in self.text("count"))

    def text(self, name: str) -> str:
        # In one step: an element that was found may be replaced before it is asked.
        return str(self.run(f"return document.getElementById('{name}').innerText")).strip()

    def until(self, condition: Callable[[], Any]) -> None:
        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: condition())

    def ready(self) -> None:
        """Wait until the question has been on the page long enough to take an answer."""
        self.until(lambda: not self.run("return document.getElementById('skip').disabled"))
        self.driver.execute_async_script("setTimeout(arguments[0], 350)")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.find_element(By.TAG_NAME, "body").send_keys(key)

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def emulate(self, **features: str) -> None:
        media = [{"name": name.replace("_", "-"), "value": v} for name, v in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})

    def size(self, width: int, height: int) -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page = Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.driver.quit()


@pytest.fixture
def page(shared: Page, serve: Serve) -> Iterator[Page]:
    """The browser, with a console that stays without errors; its servers outlive its pages."""
    shared.driver.get("about:blank")
    shared.emulate(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    shared.size(1100, 800)
    shared.driver.get_log("browser")
    yield shared
    shared.driver.get("about:blank")
    assert [entry for entry in shared.driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def in_terms(choice: str, number: int) -> str:
    """What is stored for a side of the page."""
    A = left_side("ann", number)
    sides = {"left": A, "right": "B" if A == "A" else "A"}
    *flag, side = choice.split()
    return " ".join([*flag, sides.get(side, side)])


def test_every_key_gives_its_answer(page: Page, run: Path, serve: Serve) -> None:
    keys = {
        (Keys.ARROW_LEFT,): "left",
        (Keys.ARROW_RIGHT,): "right",
        ("e",): "equal",
        ("=",): "equal",
        ("s",): "skip",
        ("c", Keys.ARROW_LEFT): "catastrophe left",
        ("c", Keys.ARROW_RIGHT): "catastrophe right",
        ("c", "b"): "catastrophe both",
        ("c", Keys.ESCAPE, Keys.ARROW_LEFT): "left",
    }
    ask(run, 3, len(keys) - 3)
    page.open(serve(run).port)
    for number, (pressed, choice) in enumerate(keys.items()):
        page.ready()
        assert page.text("count") == f"{number} of {len(keys)} answered"
        page.press(*pressed)
        page.until(lambda n=number: page.text("count").startswith(f"{n + 1} of"))
        stored = lines(run)  # on the disk when the page says so
        assert (stored[-1]["query"], stored[-1]["answer"]) == (number, in_terms(choice, number))
        assert 0.3 <= stored[-1]["latency"] < 30
        assert page.text("said").startswith("Saved: ")
    assert page.text("pause-in-questions").startswith("No question at the moment.")


def test_every_button_gives_its_answer(page: Page, run: Path, serve: Serve) -> None:
    choices = ["left", "equal", "right", "skip", "catastrophe left", "catastrophe both"]
    ask(run, 3, 4)
    page.open(serve(run).port)
    for number, choice in enumerate(choices):
        page.ready()
        if choice.startswith("catastrophe"):
            page.click("#catastrophe")
        page.click(f"[data-answer='{choice}']")
        page.until(lambda n=number: page.text("count").startswith(f"{n + 1} of"))
        assert lines(run)[-1]["answer"] == in_terms(choice, number)


def test_undo_goes_back_one_question_at_a_time(page: Page, run: Path, serve: Serve) -> None:
    page.open(serve(run).port)
    for _ in range(3):
        page.ready()
        page.press("e")
        page.until(lambda: page.text("said").startswith("Saved"))
        page.run("document.getElementById('said').textContent = ''")
    page.until(lambda: page.text("count") == "3 of 3 answered")
    page.press("u")  # from the page that has no question left
    page.until(lambda: page.text("count") == "2 of 3 answered")
    page.click("#undo")
    page.until(lambda: page.text("count") == "1 of 3 answered")
    assert page.text("said") == "Taken back: equal."
    page.ready()
    page.press(Keys.ARROW_LEFT)
    page.until(lambda: page.text("count") == "2 of 3 answered")
    assert [(line["query"], line["answer"]) for line in lines(run)] == [
        *((number, "equal") for number in range(3)),
        (2, "undo"),
        (1, "undo"),
        (1, in_terms("left", 1)),
    ]


def test_a_held_key_or_a_double_click_answers_one_question(
    page: Page, run: Path, serve: Serve
) -> None:
    page.open(serve(run).port)
    page.ready()
    # Keys at once, repeated as if held, and again as soon as the next question is there.
    page.driver.execute_async_script("""
        const press = (key, repeat) => document.dispatchEvent(
            new KeyboardEvent("keydown", {key, repeat, bubbles: true}));
        const count = document.getElementById("count");
        const watcher = new MutationObserver(() => {
            if (!count.textContent.startsWith("1 of")) return;
            watcher.disconnect();
            press("e", false);
            arguments[0]();
        });
        watcher.observe(count, {childList: true});
        press("e", false);
        press("s", false);
        for (let i = 0; i < 9; i++) press("e", true);
    """)
    page.ready()
    page.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'e', repeat: true}))")
    page.ready()
    assert page.text("count") == "1 of 3 answered"
    assert [line["query"] for line in lines(run)] == [0]


def test_a_new_question_appears_without_reload(page: Page, run: Path, serve: Serve) -> None:
    page.open(serve(run).port)
    for answered in range(1, 4):
        page.ready()
        page.press("s")
        page.until(lambda n=answered: page.text("count") == f"{n} of 3 answered")
    page.run("window.kept = true")
    assert page.driver.title == "thrifty label"
    ask(run, 3, 2)  # the learner goes on
    page.until(lambda: page.text("count") == "3 of 5 answered")
    assert page.driver.title == "(2) thrifty label"
    assert page.text("question").startswith("Which of the two would you rather have happen?")
    assert page.run("return window.kept") is True
    (run / "DONE").write_text("{}")
    for answered in (4, 5):
        page.ready()
        page.press("s")
        page.until(lambda n=answered: page.text("count") == f"{n} of 5 answered")
    page.until(lambda: "That was the last question." in page.text("pause-in-questions"))


def test_the_grid_is_drawn_and_moves(page: Page, run: Path, serve: Serve) -> None:
    page.open(serve(run).port)
    page.ready()
    dry, wet = ("left", "right") if left_side("ann", 0) == "A" else ("right", "left")
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#left .cell, #right .cell")) == 36
    for side in ("left", "right"):
        assert len(page.driver.find_elements(By.CSS_SELECTOR, f"#{side} .cell.lava")) == 4
    # The dry clip is at the goal from its stage 10 of 20 on, the other in the lava from stage 6.
    told = {dry: "Reaches the goal at stage 10: there for 11 of 20 stages.",
            wet: "Falls into the lava at stage 6: there for 15 of 20 stages."}  # fmt: skip
    for side, text in told.items():
        assert text in page.text(side)
        picture = f"document.querySelector('#{side} svg')"
        assert page.run(f"return {picture}.getAttribute('aria-label')") == text

    def place(side: str) -> str:
        script = f"document.querySelector('#{side} .walker').parentNode.getAttribute('transform')"
        return str(page.run(f"return {script}"))

    first = place("left")
    page.until(lambda: place("left") != first)  # it plays
    page.press("p")
    assert "Play" in page.text("pause")
    still = place("left")
    page.driver.execute_async_script("setTimeout(arguments[0], 500)")
    assert place("left") == still
    # A cell is 40 wide and the centre of state s at column c, row r from below is
    # (40 c + 20, 120 - 40 r - 20): state 3 of the lava at (140, 100), the goal at (220, 100).
    page.run(
        "const time = document.getElementById('time'); time.value = 19;"
        "time.dispatchEvent(new Event('input'))"
    )
    for side, centre in ((wet, "translate(140,100)"), (dry, "translate(220,100)")):
        assert place(side).startswith(centre)
    assert "Stage 20 of 20: in the lava" in page.text(wet)


def test_other_runs_show_states_and_actions(page: Page, run: Path, serve: Serve) -> None:
    (run / "config.json").write_text('{"config": {"instance": {"kind": "chain"}}}')
    page.open(serve(run).port)
    page.ready()
    wet = "right" if left_side("ann", 0) == "A" else "left"
    lines = f"Array.from(document.querySelectorAll('#{wet} .steps li'), line => line.innerText)"
    steps = page.run(f"return {lines}")
    assert len(steps) == 20
    assert steps[4] == "state 9 · action 1"
    assert not page.driver.find_elements(By.TAG_NAME, "svg")
    page.press(Keys.ARROW_LEFT)
    page.until(lambda: page.text("count") == "1 of 3 answered")


def test_less_motion_where_that_is_asked_for(page: Page, run: Path, serve: Serve) -> None:
    page.emulate(prefers_reduced_motion="reduce")
    page.open(serve(run).port)
    page.ready()
    assert "Play" in page.text("pause")
    assert "Stage 20 of 20" in page.text("left")  # the whole way is drawn


def test_the_page_asks_no_other_server_and_runs_no_foreign_script(
    page: Page, run: Path, serve: Serve
) -> None:
    client = serve(run, "<img src=x onerror=window.broken=1>")
    page.open(client.port)
    page.ready()
    asked = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert asked
    assert all(name.startswith(f"http://127.0.0.1:{client.port}/") for name in asked)
    assert "<img src=x" in page.text("annotator")  # text, not markup
    assert page.run("return window.broken") is None


@pytest.mark.parametrize(("width", "height"), [(1100, 800), (390, 760), (1100, 600)])
def test_it_fits_the_window_in_light_and_dark(
    page: Page, run: Path, serve: Serve, width: int, height: int
) -> None:
    page.size(width, height)
    papers = set()
    for scheme in ("light", "dark"):
        page.emulate(prefers_color_scheme=scheme)
        page.open(serve(run, scheme).port)
        page.ready()
        assert page.run("return document.documentElement.scrollWidth") <= width
        below = page.run("return document.getElementById('answers').getBoundingClientRect().bottom")
        assert below <= height  # question, clips and answers without scrolling
        papers.add(page.run("return getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2


def test_everything_that_can_be_pressed_has_a_name(page: Page, run: Path, serve: Serve) -> None:
    page.open(serve(run).port)
    page.ready()
    page.click("#catastrophe")
    pressed = page.driver.find_elements(By.CSS_SELECTOR, "button, input, summary, progress")
    assert all(one.accessible_name for one in pressed if one.is_displayed())
    assert page.run("return document.documentElement.lang") == "en"


def test_killing_the_server_loses_nothing_and_the_page_goes_on(page: Page, run: Path) -> None:
    """kill -9, then a new server on the same port: the page takes up by itself."""
    with process(run) as server:
        page.open(server.port)
        page.ready()
        page.press("e")
        page.until(lambda: page.text("count") == "1 of 3 answered")
        server.kill()
        page.until(lambda: page.text("alarm").startswith("No connection"))
        assert page.run("return document.getElementById('skip').disabled")
        page.press("s")
        assert page.text("count") == "1 of 3 answered"
        assert len(lines(run)) == 1
        with process(run, port=server.port):
            page.until(lambda: not page.text("alarm") and page.text("said") == "")  # loaded anew
            page.ready()
            page.press("s")
            page.until(lambda: page.text("count") == "2 of 3 answered")
    page.driver.get_log("browser")  # tells of connections that were refused
    assert [line["query"] for line in lines(run)] == [0, 1]


def test_killing_the_browser_loses_nothing(
    page: Page, run: Path, serve: Serve, tmp_path: Path
) -> None:
    port = serve(run).port
    first = Page(tmp_path / "profile")
    try:
        first.open(port)
        first.ready()
        first.press("e")
        first.until(lambda: first.text("count") == "1 of 3 answered")
        os.kill(first.driver.capabilities["goog:processID"], signal.SIGKILL)
    finally:
        first.driver.quit()
    page.open(port)
    assert page.text("count") == "1 of 3 answered"
    page.ready()
    page.press("e")
    page.until(lambda: page.text("count") == "2 of 3 answered")
    assert [line["query"] for line in lines(run)] == [0, 1]


@pytest.mark.skipif("THRIFTY_SCREENSHOT" not in os.environ, reason="THRIFTY_SCREENSHOT is not set")
def test_screenshot(page: Page, run: Path, serve: Serve) -> None:
    ask(run, 3, 9)
    client = serve(run)
    for number in range(4):
        client.answer(number, "equal")
    page.size(1100, 760)
    page.open(client.port)
    page.ready()
    page.until(lambda: "Stage 7" in page.text("left"))
    assert page.driver.save_screenshot(os.environ["THRIFTY_SCREENSHOT"])
