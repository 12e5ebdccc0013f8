"""Draw the picture of a leaderboard's page for README and docs, by headless Chromium.

    python scripts/board_picture.py [BOARD]

Run it again when the page looks otherwise; it needs Chromium and its driver, as the tests do.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "board.png"
#: Of the window, in pixels: what a reader sees first of the page.
_WIDTH, _HEIGHT = 1480, 1040
#: Colours that are enough for tables and figures, and keep the file small.
_COLOURS = 128


def main() -> None:
    """Write the picture."""
    board = ROOT / "leaderboards" / (sys.argv[1] if len(sys.argv) > 1 else "digits")
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"):
        options.add_argument(word)
    options.add_argument(f"--window-size={_WIDTH},{_HEIGHT}")
    options.binary_location = str(shutil.which("chromium"))
    service = Service(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as browser:
        browser.get((board / "index.html").as_uri())
        browser.execute_script("document.querySelector('table').scrollIntoView()")
        browser.execute_script("window.scrollBy(0, -16)")
        picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    PICTURE.parent.mkdir(exist_ok=True)
    picture.quantize(_COLOURS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
