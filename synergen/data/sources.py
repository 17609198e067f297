"""Where data sets come from: built-in ones, recipes for published ones, the simulated shop, and folders."""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from synergen.data import sessions
from synergen.data.downloads import fetch
from synergen.data.filters import apply_filter
from synergen.data.folder import folder_files, load_folder
from synergen.data.movielens import load_ml_100k, ml_100k_files
from synergen.data.parsed import parsed
from synergen.data.prepared import sha256_of
from synergen.data.recipe import RawFiles, Recipe, Report
from synergen.data.recipes import RECIPES
from synergen.errors import UserError, unknown_name
from synergen.files import cache_root, digest, digest_files, write_json
from synergen.raw import RawLog, validate

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A data set before anything is counted or sorted."""

    name: str
    about: str
    identity: str
    """What tells it from other sources of its name."""
    files: Callable[[], list[Path]]
    """What it is read from; raises UserError where something is missing."""
    load: Callable[[Report], RawLog]
    recipe: Recipe | None = None
    simulator: str | None = None
    """What a simulated data set is a function of; None where there are real files."""
    has_impressions: bool = False

    def source_hash(self) -> str:
        """SHA-256 of the source files, for recognising a data set without parsing it."""
        if self.recipe is not None:  # gigabytes, whose sums are needed on their own too
            return digest(*(part for path in sorted(self.files()) for part in (path.name, sha256_of(path))))
        return digest_files(self.files()) if self.simulator is None else digest(self.simulator)


def silent(what: str, done: int, total: int) -> None:
    """A report to nobody."""


BUILT_IN = {
    "ml-100k": Source(
        "ml-100k",
        "MovieLens 100K, shipped inside the recbole package",
        "recbole",
        ml_100k_files,
        lambda report: load_ml_100k(),
    ),
}


def find_source(name_or_folder: str) -> Source:
    """The built-in data set, the recipe, or the simulated shop of that name, or the folder at that path.

    Raises:
        UserError: none exists.
    """
    if name_or_folder in BUILT_IN:
        return BUILT_IN[name_or_folder]
    if name_or_folder in RECIPES:
        return recipe_source(name_or_folder, RECIPES[name_or_folder])
    if _SESSIONS.fullmatch(name_or_folder):
        return _of_sessions(name_or_folder)
    folder = Path(name_or_folder)
    if folder.is_dir():
        return _of_folder(folder)
    if "/" in name_or_folder or "\\" in name_or_folder:
        raise UserError(f"data set folder {name_or_folder} does not exist; give a folder with interactions.parquet")
    known = [*BUILT_IN, *RECIPES, "sessions"]
    raise unknown_name("data set", name_or_folder, known, where="the known ones (a folder is given by its path)")


def _of_folder(folder: Path) -> Source:
    path = folder.resolve()
    return Source(
        path.name,
        f"folder {folder}",
        str(path),
        lambda: folder_files(folder),
        lambda report: load_folder(folder),
        has_impressions=(folder / "impressions.parquet").is_file(),
    )


_SESSIONS = re.compile(r"sessions(?:-(\d+)(k?))?")


def _of_sessions(name: str) -> Source:
    """The simulated shop: `sessions` has 10,000 users, `sessions-N` and `sessions-Nk` as many as they say."""
    number, thousands = cast(re.Match[str], _SESSIONS.fullmatch(name)).groups()
    users = 10_000 if number is None else int(number) * (1000 if thousands else 1)
    simulator = f"sessions {sessions.VERSION}, {users} users, seed 0"
    return Source(
        f"sessions-{users // 1000}k" if users % 1000 == 0 else f"sessions-{users}",
        f"simulated shop of {users:,} users with search, feed, impressions, clicks and purchases",
        simulator,
        lambda: folder_files(sessions.folder_for(users)),
        lambda report: load_folder(sessions.folder_for(users)),
        simulator=simulator,
        has_impressions=True,
    )


def recipe_source(name: str, recipe: Recipe) -> Source:
    """A published data set, read from its raw folder."""

    def files() -> RawFiles:
        try:
            return recipe.find(raw_folder(recipe))
        except UserError as error:
            raise UserError(f"{error}; `synergen data prepare {name}` does so, or takes --raw DIR") from error

    return Source(
        name,
        recipe.about,
        f"{recipe.name} {recipe.variant}",
        lambda: list(files().all),
        lambda report: read_raw(recipe, files(), report),
        recipe=recipe,
    )


def raw_folder(recipe: Recipe) -> Path:
    """Where the raw files of a data set are: the folder that `use_raw_folder` was told, else one of the cache."""
    told = _told(recipe)
    return Path(told["folder"]) if told else cache_root() / "raw" / recipe.name


def use_raw_folder(recipe: Recipe, folder: Path, *, any_checksum: bool = False) -> None:
    """Read the raw files of a data set from this folder, now and later.

    Args:
        any_checksum: take files whose checksum is not the published one; the statistics then say so.

    Raises:
        UserError: a file that the recipe needs is not there, or is not the published one.
    """
    for path in recipe.find(folder).all:
        if not any_checksum:
            _refuse_unpublished(recipe, path)
    write_json(_told_path(recipe), {"folder": str(folder.resolve()), "any_checksum": any_checksum})


def download(recipe: Recipe, report: Report) -> None:
    """Bring the raw files of a data set into its folder of the cache, unless another one was told. One that it can do
    without is gone without, with a warning, where it cannot be had."""
    if _told(recipe):
        return
    fetch([one for one in recipe.downloads if one.needed], raw_folder(recipe), report)
    for one in recipe.downloads:
        if not one.needed:
            try:
                fetch([one], raw_folder(recipe), report)
            except UserError as error:
                _log.warning("%s is prepared without %s: %s", recipe.name, one.name, error)


OTHER_FILES: Final = "raw files that are not the published ones"


def provenance(recipe: Recipe, files: list[Path]) -> dict[str, str]:
    """Lines of statistics on raw files that differ from the published ones, or cannot be compared with them."""
    pinned = {one.name for one in recipe.downloads if one.sha256}
    lines = {
        OTHER_FILES: [path.name for path in files if _other_sum(recipe, path)],
        "raw files without a published checksum": [path.name for path in files if path.name not in pinned],
    }
    return {line: ", ".join(names) for line, names in lines.items() if names}


def _told(recipe: Recipe) -> dict[str, Any]:
    """What `use_raw_folder` wrote, unless that folder is gone."""
    path = _told_path(recipe)
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return told if told and Path(told["folder"]).is_dir() else {}


def _told_path(recipe: Recipe) -> Path:
    return cache_root() / "raw" / f"{recipe.name}.json"


def read_raw(recipe: Recipe, files: RawFiles, report: Report) -> RawLog:
    """The events that a recipe keeps, and what its files say of their items."""
    raw: RawLog | None = None
    if not _told(recipe).get("any_checksum"):
        for path in files.all:
            _refuse_unpublished(recipe, path)
    for path in files.events:
        found = parsed(path, sha256_of(path), recipe.name, partial(_read_events, recipe, path, report))
        raw = found if raw is None else raw.followed_by(found, str(path))
    assert raw is not None
    report("filtering", 0, 0)
    raw = apply_filter(raw, recipe.rule, recipe.min_count)
    raw = replace(
        raw,
        name=recipe.name,
        action_is_outcome=recipe.action_is_outcome,
        categories_are_flat=recipe.categories_are_flat,
    )
    if recipe.read_items is None or not files.about_items:
        return raw
    items = recipe.read_items(files.about_items, raw.item.present().ids, report)
    return replace(raw, catalogue=items.table, dropped=raw.dropped | items.notes)


def _read_events(recipe: Recipe, path: Path, report: Report) -> RawLog:
    events = recipe.read_events(path, report)
    report(f"numbering {path.name}", 0, 0)
    raw = validate(events.table, None, recipe.name, str(path), drop_duplicates=False)
    return replace(raw, dropped=events.notes, vocabulary=events.vocabulary)


def _other_sum(recipe: Recipe, path: Path) -> str | None:
    """The published SHA-256 of a raw file, where that is known and not the file's."""
    published = next((one.sha256 for one in recipe.downloads if one.name == path.name), None)
    return published if published and published != sha256_of(path) else None


def _refuse_unpublished(recipe: Recipe, path: Path) -> None:
    if published := _other_sum(recipe, path):
        raise UserError(
            f"{path}: its SHA-256 is {sha256_of(path)[:12]}… and not {published[:12]}…, that of the published file; it "
            "may be cut short or changed: fetch it again, or take it as it is with --any-checksum"
        )
