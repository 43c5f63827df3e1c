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
PICTURES = {
    "page": ("generate", ""), "similarity": ("similarity", ""), "where": ("where", "where-heatmap"), "speed": ("speed", "speed-latency"),
    "scores": ("scores", "scores-tradeoff"),
}  # fmt: skip
"""File name → the view, and the id of what stands at the top of the picture (empty: the view itself)."""
OPTIONS = "scores-task=demo_prose+·+bits_per_byte&speed-shape=Llama-3-8B"
WINDOW = {"width": 1360, "height": 960}
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
    """Open each view, wait for texts and charts, and write every picture."""
    page.set_default_timeout(PATIENCE_MS)
    SCREENSHOTS.mkdir(exist_ok=True)
    for name, (view, top) in PICTURES.items():
        page.goto(f"{address}?view={view}&{OPTIONS}", wait_until="domcontentloaded")
        wait_until_idle(page)
        page.add_style_tag(content="* { scroll-behavior: auto !important; caret-color: transparent !important }")
        if top:
            page.evaluate("id => document.getElementById(id).scrollIntoView()", top)
        page.wait_for_timeout(1000)  # charts that came into sight settle
        write(page.screenshot(), SCREENSHOTS / f"{name}.png")


def write(png: bytes, path: Path) -> None:
    """The picture with 256 colours: a third of the size, and no difference to the eye."""
    Image.open(BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
