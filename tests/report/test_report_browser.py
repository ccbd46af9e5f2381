"""The page in a real browser: nothing to complain of, every picture there, nothing wider than a phone."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from report_runs import Cut, Make

from widthwise.report import report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--dump-dom"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000"),
)

LOOK = """
<pre id="seen"></pre><script>
addEventListener("load", () => {
  const frame = document.createElement("iframe");  // a window of a phone's width, which a browser's own may not be
  frame.style = "width:390px;height:800px";
  document.querySelectorAll("details").forEach(part => { part.open = true; });
  frame.srcdoc = document.documentElement.outerHTML.replace(/<pre id="seen">[^]*?<\\/script>/, "");
  frame.onload = () => {
    const phone = frame.contentDocument;
    const sizes = where => [...where.querySelectorAll("svg,img")].map(picture => {
      const box = picture.getBoundingClientRect();
      return [box.width, box.height, picture.querySelectorAll("path,use").length];
    });
    const outside = [...phone.querySelectorAll("figure svg text")].filter(text => {
      const own = text.getBoundingClientRect(), box = text.closest("svg").getBoundingClientRect();
      return own.left < box.left - 2 || own.right > box.right + 2;
    }).map(text => text.textContent);
    document.getElementById("seen").textContent = JSON.stringify({
      pictures: sizes(document), small: sizes(phone), outside,
      wide: phone.documentElement.scrollWidth,
      ink: getComputedStyle(document.body).color, dark: matchMedia("(prefers-color-scheme: dark)").matches,
    });
  };
  document.body.append(frame);
});
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = os.environ.get("WIDTHWISE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)} (apt-get install chromium), or WIDTHWISE_CHROMIUM")
    return found


def look(browser: str, page: Path, folder: Path, *options: str) -> dict[str, Any]:
    """What a browser makes of a page; nothing may be said on its console."""
    copy = folder / "looked-at.html"
    copy.write_text(page.read_text().replace("</body>", LOOK + "</body>"))
    command = [browser, *OPTIONS, f"--user-data-dir={folder / 'profile'}", *options, copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert seen is not None
    found: dict[str, Any] = json.loads(html.unescape(seen[1]))
    return found


def test_the_page_in_both_themes_and_on_a_phone(browser: str, made: Make, cut: Cut, tmp_path: Path) -> None:
    runs = [made(name).path for name in ("fnnp", "l1", "stagewise", "joint", "exploration")]
    page = report([*runs, cut("joint", 2)], tmp_path / "out")
    expected = page.read_text().count("<svg ")
    inks = set()
    for dark in (False, True):
        seen = look(browser, page, tmp_path, *(["--force-dark-mode"] if dark else []))
        assert len(seen["pictures"]) == len(seen["small"]) == expected
        assert all(width > 300 and height > 80 and drawn > 5 for width, height, drawn in seen["pictures"])
        assert all(0 < width <= 390 for width, _, _ in seen["small"])
        assert seen["wide"] <= 390
        assert seen["outside"] == []
        inks.add(seen["ink"])
        assert seen["dark"] == dark
    assert len(inks) == 2
