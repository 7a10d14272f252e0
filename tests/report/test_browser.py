"""The page in a real browser: no requests, no errors, all of it by keyboard."""

import shutil

import pytest

from scratchnet import report
from scratchnet.cli.main import main

selenium = pytest.importorskip("selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = pytest.mark.browser
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--window-size=1000,1400",
)  # fmt: skip
RUNS = {
    "vae": "--hidden 64 --code 4 --epochs 4",
    "gan": "--hidden 32 --noise 4 --steps 30",
    "autoencoder": "--hidden 32 --code 2 --epochs 2",
}


@pytest.fixture(scope="module")
def browser():
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("there is no chromium with its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in OPTIONS:
        options.add_argument(option)
    logged = {"browser": "ALL", "performance": "ALL"}
    options.set_capability("goog:loggingPrefs", logged)
    service = webdriver.ChromeService(driver)
    with webdriver.Chrome(options=options, service=service) as chrome:
        yield chrome


@pytest.fixture(scope="module", params=RUNS)
def page(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    options = ["--examples", "500", *RUNS[request.param].split()]
    assert main(["train", request.param, *options, "--out", str(folder)]) == 0
    return report.write(folder)


@pytest.fixture
def opened(browser, page):
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(f"file://{page}")
    return browser


def pixels(browser, canvas):
    """Return the picture on a canvas."""
    script = "return document.getElementById(arguments[0]).toDataURL()"
    return browser.execute_script(script, canvas)


def test_nothing_is_asked_for_and_nothing_goes_wrong(opened, page):
    assert opened.get_log("browser") == []
    asked = [
        line["message"] for line in opened.get_log("performance")
        if '"Network.requestWillBeSent"' in line["message"]
    ]  # fmt: skip
    others = [m for m in asked if f"file://{page}" not in m and "data:" not in m]
    assert others == []


def test_the_decoder_agrees_with_numpy(opened):
    shown = opened.find_element(By.CLASS_NAME, "difference").text
    assert float(shown) < 1e-3


def test_the_pad_and_the_walk_by_keyboard(opened):
    for slider, canvas in (("pad-0", "decoded"), ("pad-1", "decoded"),
                           ("walk", "walked"), ("to", "walked")):  # fmt: skip
        before = pixels(opened, canvas)
        element = opened.find_element(By.ID, slider)
        element.send_keys(*[Keys.ARROW_RIGHT] * 8)
        assert pixels(opened, canvas) != before, slider
        if slider != "to":
            assert element.get_attribute("aria-valuetext")


def test_the_state_is_in_the_address(opened, page):
    opened.find_element(By.ID, "pad-0").send_keys(*[Keys.ARROW_RIGHT] * 8)
    opened.find_element(By.ID, "korean").click()
    address, shown = opened.current_url, pixels(opened, "decoded")
    opened.get("about:blank")
    opened.get(address)
    assert pixels(opened, "decoded") == shown
    assert opened.find_element(By.TAG_NAME, "html").get_attribute("lang") == "ko"


def test_one_language_is_shown_at_a_time(opened):
    for button, language in (("korean", "ko"), ("english", "en")):
        opened.find_element(By.ID, button).click()
        heading = opened.find_element(By.TAG_NAME, "h1").text
        assert ("학습" in heading) == (language == "ko")
        assert ("trained" in heading) == (language == "en")
        pressed = opened.find_element(By.ID, button).get_attribute("aria-pressed")
        assert pressed == "true"


@pytest.mark.parametrize("width", [400, 900, 1600])
def test_no_page_is_wider_than_the_window(opened, width):
    opened.set_window_size(width, 1000)
    inner, whole = opened.execute_script(
        "return [innerWidth, document.documentElement.scrollWidth]"
    )
    assert whole <= inner
    opened.set_window_size(1000, 1400)


def test_the_shade_can_be_switched(opened):
    script = "return getComputedStyle(document.body).backgroundColor"
    before = opened.execute_script(script)
    opened.find_element(By.ID, "dark").click()
    assert opened.execute_script(script) != before
