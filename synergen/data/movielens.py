"""ml-100k: shipped inside the recbole package, so that something real can be run without a download.

Source: GroupLens MovieLens 100K, as RecBole's atomic files. The rating is the action, genres are the categories.
"""

import importlib.util
from pathlib import Path

import pandas as pd

from synergen.errors import UserError
from synergen.raw import Columns, RawLog, validate


def ml_100k_files() -> list[Path]:
    """The interaction and item file inside the installed recbole package."""
    package = importlib.util.find_spec("recbole")
    if package is None or not package.submodule_search_locations:
        raise UserError("ml-100k is read from the recbole package, which is not installed; pip install recbole==1.2.1")
    folder = Path(package.submodule_search_locations[0]) / "dataset_example" / "ml-100k"
    return [folder / "ml-100k.inter", folder / "ml-100k.item"]


def load_ml_100k() -> RawLog:
    """943 users, 1,682 films, 100,000 ratings; times in seconds."""
    ratings, films = (pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False) for path in ml_100k_files())
    interactions = pd.DataFrame(
        {
            Columns.USER: ratings["user_id:token"].astype(int),
            Columns.ITEM: ratings["item_id:token"].astype(int),
            Columns.TIME: ratings["timestamp:float"].astype(int),
            Columns.ACTION: "rating " + ratings["rating:float"],
        }
    )
    years = films["release_year:token"].where(films["release_year:token"].str.fullmatch(r"\d{4}"), "")
    items = pd.DataFrame(
        {
            Columns.ITEM: films["item_id:token"].astype(int),
            Columns.TITLE: (films["movie_title:token_seq"] + " " + years).str.strip(),
            Columns.CATEGORIES: [[genres.split()] if genres else [] for genres in films["class:token_seq"]],
        }
    )
    return validate(
        interactions,
        items,
        "ml-100k",
        str(ml_100k_files()[0]),
        action_is_outcome=True,
        categories_are_flat=True,
    )
