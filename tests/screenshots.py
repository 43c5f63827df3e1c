"""Take the screenshots of the README, of the page as it stands, in Chromium: `make screenshots`."""

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from app.main import demo, launch_options
from app.registry import get_model
from tests.support.browser import CHROMIUM, FLAGS, ROOT, wait_until_idle

SCREENSHOTS = ROOT / "assets" / "screenshots"
SECTIONS = {
    "similarity": "similarity", "where": "where-heatmap", "speed": "speed", "scores": "scores-tradeoff", "page": "top",
}  # fmt: skip
"""File name → id of the part that stands at the top of the picture."""
WINDOW = {"width": 1360, "height": 860}
PATIENCE_MS = 60_000


def main() -> int:
    """Serve the page from this process and write one picture per section."""
    if not CHROMIUM:
        print("There is no chromium: install Debian's package chromium.", file=sys.stderr)
        return 2
    get_model("")
    demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            take(browser.new_page(viewport=WINDOW, device_scale_factor=1.25, color_scheme="light"), demo.local_url)
            browser.close()
    finally:
        demo.close()
    return 0


def take(page: Page, address: str) -> None:
    """Open the page, wait for texts and charts, and write every picture."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address, wait_until="domcontentloaded")
    wait_until_idle(page)
    page.locator("#scores-task input").click()
    page.get_by_role("option", name="demo_prose").first.click()
    page.wait_for_selector("#scores-tradeoff :text('demo_prose')")
    page.mouse.move(0, 0)
    page.add_style_tag(content="* { scroll-behavior: auto !important; caret-color: transparent !important }")
    SCREENSHOTS.mkdir(exist_ok=True)
    for name, heading in SECTIONS.items():
        page.evaluate("id => document.getElementById(id).scrollIntoView()", heading)
        page.wait_for_timeout(500)  # charts that came into sight settle
        write(page.screenshot(), SCREENSHOTS / f"{name}.png")


def write(png: bytes, path: Path) -> None:
    """The picture with 256 colours: a third of the size, and no difference to the eye."""
    Image.open(BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
