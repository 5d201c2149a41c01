"""Every page in real Chromium: desktop and phone, light and dark, and on paper."""

import shutil

import pytest

from tests.browser import Browser, Look
from turnout.catalog import load_catalog
from turnout.replay.drift import drift

pytestmark = pytest.mark.slow

# Page → where it lies in the folder that `folder` fills, and words that it must say.
PAGES = {
    "index": ("index.html", ("all reasoning", "You use ")),
    "switches": ("switches/report.html", ("conversations",)),
    "build": ("session-data/dataset.html", ("labelled turns are used", "not the first turn")),
    "evaluate": ("report/report.html", ("AUROC", "ahead of length by")),
    "replay": ("replay/replay.html", ("USD for 1,000 turns",)),
    "drift": ("drift/drift.html", ("turns",)),
}
LOOKS = {
    "desktop": Look(1200),
    "desktop, dark": Look(1200, "dark"),
    "phone": Look(390),
    "phone, dark": Look(390, "dark"),
    "paper": Look(718, medium="print"),  # A4 within its margins, at 96 dots an inch
}


@pytest.fixture(scope="module")
def folder(learnt_folder, tmp_path_factory):
    """What `turnout learn` and `turnout drift` leave."""
    mine = shutil.copytree(learnt_folder / "mine", tmp_path_factory.mktemp("pages") / "mine")
    turns, catalog = mine / "turns.parquet", load_catalog()
    drift(mine / "conversation-router", turns, mine / "drift", catalog=catalog)
    return mine


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_and_the_console_stays_silent(name, look, folder, browser):
    seen = browser.see(folder / PAGES[name][0], LOOKS[look])
    assert seen.complaints == []
    assert (seen.overflow, seen.too_wide) == (0, [])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_without_scripts_and_follows_the_readers_scheme(name, folder, browser):
    path, said = PAGES[name]
    light, dark = (browser.see(folder / path, Look(1200, scheme)) for scheme in ("light", "dark"))
    assert light.scripts == 0
    assert all(words in light.text for words in said)
    assert light.ground != dark.ground
