"""`dagster dev` in a real browser: a small graph is materialised by clicks, and its pages show what was made.

With PRIVFEDTALK_SCREENSHOTS=docs/images the pictures of docs/operations.md are taken anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.pipelines.live_dagster import PROJECT, Home, ask, free_port, make_home, running, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.ui

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOCATION = "/locations/__repository__@privfedtalk"
SMALLEST: dict[str, Any] = {
    "run": "browser",
    "studio.public_speakers": 3,
    "studio.public_clips": 1,
    "studio.clients": 2,
    "studio.client_clips": 2,
    "studio.unseen": 1,
    "studio.unseen_clips": 1,
    "studio.volunteers": 1,
    "studio.volunteer_clips": 1,
    "studio.seconds": 0.8,
    "studio.size": 64,
    "workers": 1,
}
RUNS = "{ runsOrError { ... on Runs { results { runId status jobName } } } }"


@dataclass(frozen=True)
class Site:
    """A running `dagster dev`, and the page of a browser that looks at it."""

    page: Page
    port: int
    home: Home

    def open(self, path: str) -> None:
        self.page.goto(f"http://127.0.0.1:{self.port}{path}", wait_until="domcontentloaded")

    def sees(self, text: str, seconds: float = 30) -> None:
        """Wait until the text stands on the page; where it does not come, tell what stands there instead."""
        from playwright.sync_api import TimeoutError as Late

        try:
            self.page.get_by_text(text, exact=False).first.wait_for(state="visible", timeout=1000 * seconds)
        except Late:
            self.page.screenshot(path=self.home.folder / "failed.png")
            stands = self.page.inner_text("body")[:3000]
            raise AssertionError(f"no {text!r} on {self.page.url} ({self.home.folder}/failed.png):\n{stands}") from None

    def picture(self, name: str) -> None:
        """A JPEG for the documentation, where it was asked for."""
        wanted = os.environ.get("PRIVFEDTALK_SCREENSHOTS")
        if wanted:
            self.page.wait_for_timeout(1500)  # charts draw themselves in
            path = PROJECT / wanted / f"{name}.jpg"
            self.page.screenshot(path=path, type="jpeg", quality=72)
            assert path.stat().st_size < 200_000, f"{path} is too large for a repository"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `ui`: make test-ui")
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)} on the PATH: `make test-ui` installs Debian's where it may")
    folder, port = tmp_path_factory.mktemp("ui"), free_port()
    home = make_home(folder / "home", "small", SMALLEST | {"data": str(folder / "data")})
    with (
        running(home, "dagster", "dev", "-h", "127.0.0.1", "-p", str(port)),
        playwright.sync_playwright() as driver,
    ):
        until(lambda: ask(port, "{ version }"), 120, home, "the web server")
        # As root, as in a container, Chromium has no sandbox of its own; the page is our own server's.
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(30_000)
        yield Site(page, port, home)
        chromium.close()


def test_the_graph_has_its_groups_in_order(site: Site) -> None:
    site.open("/asset-groups")
    for group in ("corpus", "preparation", "backbone", "federation", "evaluation", "reports"):
        site.sees(group)
    site.picture("dagster_graph")


def test_a_click_materialises_the_corpus_and_its_pages_tell_of_it(site: Site) -> None:
    site.open(f"{LOCATION}/asset-groups/corpus")
    site.page.get_by_role("button", name="Materialize all").click()
    run = until(lambda: finished(site.port), 240, site.home, "a finished run")
    assert run["status"] == "SUCCESS", site.home.said

    site.open("/assets/manifest")
    for text in ("One row for each readable clip", "Latest materialization", "Owners", "preparation", "speakers"):
        site.sees(text)
    speakers = site.page.get_by_role("row").filter(has_text="speakers").first
    assert speakers.inner_text().split()[-1] == "7"
    site.picture("dagster_asset")
    site.page.get_by_text("[Show Markdown]").first.click()
    faces = site.page.get_by_role("img", name="frames")
    faces.wait_for(state="visible")
    assert faces.evaluate("picture => picture.naturalWidth") > 300
    site.picture("dagster_faces")
    site.open("/assets/clients?view=checks")
    site.sees("splits_disjoint")
    site.sees("Passed")
    # What the page says is what is on the disk.
    from common.folders import RunFolder
    from preparation.clients.roles import load_people

    root = next((site.home.folder.parent / "data").iterdir())
    assert len(load_people(RunFolder(root))) == 7


def test_schedule_and_sensors_stand_on_their_page(site: Site) -> None:
    site.open("/automation")
    for text in ("nightly_evaluation", "new_clips", "new_models"):
        site.sees(text)
    running_switch = site.page.get_by_role("row").filter(has_text="nightly_evaluation")
    site.picture("dagster_automation")
    assert running_switch.count() <= 1
    state = ask(site.port, SCHEDULE)
    assert state is not None
    assert state["scheduleOrError"]["scheduleState"]["status"] == "RUNNING"
    assert state["scheduleOrError"]["executionTimezone"] == "UTC"


SCHEDULE = """{ scheduleOrError(scheduleSelector: {repositoryName: "__repository__",
  repositoryLocationName: "privfedtalk", scheduleName: "nightly_evaluation"}) {
  ... on Schedule { executionTimezone scheduleState { status } } } }"""


def finished(port: int) -> dict[str, Any] | None:
    answer = ask(port, RUNS)
    runs = answer["runsOrError"]["results"] if answer else []
    return next((run for run in runs if run["status"] in ("SUCCESS", "FAILURE", "CANCELED")), None)
