"""The recipes of published data sets, a file a source."""

from synergen.data.recipe import Recipe
from synergen.data.recipes.books import BOOKS
from synergen.data.recipes.kindle import KINDLE
from synergen.data.recipes.kuaisar import KUAISAR
from synergen.data.recipes.movielens import ML_1M, ML_20M

_FAMILIES: tuple[tuple[Recipe, ...], ...] = (BOOKS, KINDLE, ML_1M, ML_20M, KUAISAR)

RECIPES: dict[str, Recipe] = {
    family[0].name + (f"-{recipe.variant}" if number else ""): recipe
    for family in _FAMILIES
    for number, recipe in enumerate(family)
}
"""By the name of the data set: the first variant has the family's own name, others have theirs after it."""
