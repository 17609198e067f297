"""The items of the shop: what their titles say of them, and what nobody can read."""

from dataclasses import dataclass

import numpy as np

from synergen.data.sessions.words import (
    CONSUMABLE_ATTRIBUTES,
    CONSUMABLES,
    DEPARTMENTS,
    DURABLE_ATTRIBUTES,
    MODIFIERS,
    entries,
    invented_names,
    model_words,
)

D = 16
"""Width of the latent vectors."""

LEAF_SIZE = 115
SMALLEST, LARGEST = 1_000, 500_000
"""Items of a catalogue."""

BRANDS_OF_LEAF = 12
ATTRIBUTES_OF_ITEM = 3
VALUES_OF_LEAF = 6
"""Values of each kind of attribute that occur in a leaf."""

CENTRE_SHARE, BRAND_SHARE, ATTRIBUTE_SHARE, OWN_SHARE = 0.4, 0.25, 0.35, 0.4
"""Variances of the parts of an item's vector. Words express all but the own part."""

TITLE_FORMS, MISSPELT = 2, 3
"""The first two forms of a leaf's name stand in titles; the third and the misspelt only in queries."""


@dataclass(frozen=True)
class Leaves:
    """L leaves of the category tree; leaf l belongs to department l mod number of departments."""

    starts: np.ndarray  # (L + 1,) int64: items starts[l]:starts[l + 1]
    paths: list[list[str]]  # L times [department, category, leaf]
    names: list[list[str]]  # L times three forms
    department_words: list[list[str]]  # two forms of each department
    consumable: np.ndarray  # (L,) bool
    popularity: np.ndarray  # (L,) float64, sums to 1
    centres: np.ndarray  # (L, D) float32
    brands: np.ndarray  # (L, BRANDS_OF_LEAF) int32
    attributes: np.ndarray  # (L, ATTRIBUTES_OF_ITEM, VALUES_OF_LEAF) int32

    @property
    def n_departments(self) -> int:
        return len(self.department_words)

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Items:
    """V items in order of leaf, as far as shoppers and the logging policy tell them apart."""

    leaf: np.ndarray  # (V,) int32
    vector: np.ndarray  # (V, D) float32
    quality: np.ndarray  # (V,) float32, standard normal
    price: np.ndarray  # (V,) float32, standard normal: the price level within the leaf
    popularity: np.ndarray  # (V,) float32: log of the long-tailed popularity
    brand: np.ndarray  # (V,) int32
    attributes: np.ndarray  # (V, ATTRIBUTES_OF_ITEM) int32
    name_form: np.ndarray  # (V,) int8: the form of the leaf's name that the title uses

    def __len__(self) -> int:
        return len(self.leaf)


@dataclass(frozen=True)
class Catalogue:
    """Items, their tree, and the words that name brands and attributes."""

    leaves: Leaves
    items: Items
    titles: list[str]
    brand_names: list[str]
    brand_vectors: np.ndarray  # (brands, D) float32
    attribute_words: list[list[str]]  # two forms of each
    attribute_vectors: np.ndarray  # (attributes, D) float32


def catalogue_size(users: int) -> int:
    """One item a user, within bounds."""
    return min(max(users, SMALLEST), LARGEST)


def make_catalogue(n_items: int, rng: np.random.Generator) -> Catalogue:
    """A catalogue of n_items, SMALLEST to LARGEST."""
    attribute_words = [words for kind in (*DURABLE_ATTRIBUTES, *CONSUMABLE_ATTRIBUTES) for words in entries(kind)]
    attribute_vectors = _normal(rng, ATTRIBUTE_SHARE / ATTRIBUTES_OF_ITEM / D, len(attribute_words), D)
    n_leaves = round(n_items / LEAF_SIZE)
    n_brands = max(BRANDS_OF_LEAF * _departments(n_leaves), n_items // 40)
    brand_vectors = _normal(rng, BRAND_SHARE / D, n_brands, D)
    leaves = _make_leaves(n_items, n_leaves, n_brands, rng)
    items = _make_items(leaves, brand_vectors, attribute_vectors, rng)
    brand_names = invented_names(n_brands, rng)
    titles = _titles(leaves, items, brand_names, attribute_words, rng)
    return Catalogue(leaves, items, titles, brand_names, brand_vectors, attribute_words, attribute_vectors)


def _normal(rng: np.random.Generator, variance: float, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32) * np.float32(variance**0.5)


def _departments(n_leaves: int) -> int:
    return min(len(DEPARTMENTS), n_leaves // 4)


def _make_leaves(n_items: int, n_leaves: int, n_brands: int, rng: np.random.Generator) -> Leaves:
    n_departments = _departments(n_leaves)
    tree = list(DEPARTMENTS.items())[:n_departments]
    paths, names, consumable = [], [], []
    modifiers = entries(MODIFIERS)
    for leaf in range(n_leaves):
        nth, department = divmod(leaf, n_departments)  # neighbours in number stand in different departments
        title, categories = tree[department]
        things = [(category, names) for category, stock in categories.items() for names in entries(stock)]
        modifier, place = divmod(nth, len(things))
        category, forms = things[place % 4 * 4 + place // 4]  # the first leaves of a department differ in category
        known, asked = modifiers[modifier]
        names.append([f"{word} {form}".strip() for word, form in zip((known, known, asked), forms, strict=True)])
        paths.append([title.split("|")[0], category, names[-1][0].title()])
        consumable.append(category in CONSUMABLES)
    starts = np.linspace(0, n_items, n_leaves + 1).astype(np.int64)
    starts[1:-1] += rng.integers(-7, 8, n_leaves - 1)
    popularity = rng.permutation(1 / (np.arange(n_leaves) + 3.0) ** 0.7)
    kinds = np.stack([_values_of_leaf(is_consumable, rng) for is_consumable in consumable])
    brands = [_brands_of_leaf(leaf % n_departments, n_departments, n_brands, rng) for leaf in range(n_leaves)]
    return Leaves(
        starts=starts,
        paths=paths,
        names=names,
        department_words=[title.lower().split("|") for title, _ in tree],
        consumable=np.array(consumable),
        popularity=popularity / popularity.sum(),
        centres=_normal(rng, CENTRE_SHARE / D, n_leaves, D),
        brands=np.stack(brands),
        attributes=kinds,
    )


def _values_of_leaf(consumable: bool, rng: np.random.Generator) -> np.ndarray:
    """(ATTRIBUTES_OF_ITEM, VALUES_OF_LEAF) int32 attributes, a row a kind."""
    kinds = [len(entries(kind)) for kind in (*DURABLE_ATTRIBUTES, *CONSUMABLE_ATTRIBUTES)]
    first = len(DURABLE_ATTRIBUTES) if consumable else 0
    rows = [
        sum(kinds[:kind]) + rng.choice(kinds[kind], VALUES_OF_LEAF, replace=False)
        for kind in range(first, first + ATTRIBUTES_OF_ITEM)
    ]
    return np.array(rows, np.int32)


def _brands_of_leaf(department: int, n_departments: int, n_brands: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(np.arange(department, n_brands, n_departments, dtype=np.int32), BRANDS_OF_LEAF, replace=False)


def _make_items(
    leaves: Leaves, brand_vectors: np.ndarray, attribute_vectors: np.ndarray, rng: np.random.Generator
) -> Items:
    leaf = np.repeat(np.arange(len(leaves), dtype=np.int32), np.diff(leaves.starts))
    n = len(leaf)
    sizes = 1 / np.arange(2, BRANDS_OF_LEAF + 2)  # of the brands within a leaf
    brand = leaves.brands[leaf, rng.choice(BRANDS_OF_LEAF, n, p=sizes / sizes.sum())]
    value = rng.integers(0, VALUES_OF_LEAF, (n, ATTRIBUTES_OF_ITEM))
    attributes = leaves.attributes[leaf[:, None], np.arange(ATTRIBUTES_OF_ITEM), value]
    n_brands = len(brand_vectors)
    quality = _normal(rng, 0.3, n_brands)[brand] + _normal(rng, 0.7, n)
    price = _normal(rng, 0.4, n_brands)[brand] + _normal(rng, 0.6, n)
    return Items(
        leaf=leaf,
        vector=leaves.centres[leaf]
        + brand_vectors[brand]
        + attribute_vectors[attributes].sum(1)
        + _normal(rng, OWN_SHARE / D, n, D),
        quality=quality,
        price=price,
        popularity=0.4 * quality + _normal(rng, 1.0, n),
        brand=brand,
        attributes=attributes,
        name_form=rng.choice(TITLE_FORMS, n, p=[0.65, 0.35]).astype(np.int8),
    )


def _titles(
    leaves: Leaves, items: Items, brand_names: list[str], attribute_words: list[list[str]], rng: np.random.Generator
) -> list[str]:
    layouts = (
        "{brand} {first} {second} {thing} {model}, {third}",
        "{brand} {model} {thing} - {first}, {second}, {third}",
        "{first} {second} {thing} by {brand}, {third}, {model}",
    )
    words = [forms[0].title() for forms in attribute_words]
    titles = []
    for leaf, form, brand, (first, second, third), model, layout in zip(
        items.leaf.tolist(),
        items.name_form.tolist(),
        items.brand.tolist(),
        items.attributes.tolist(),
        model_words(len(items), rng),
        rng.integers(0, len(layouts), len(items)).tolist(),
        strict=True,
    ):
        titles.append(
            layouts[layout].format(
                brand=brand_names[brand],
                thing=leaves.names[leaf][form].title(),
                first=words[first],
                second=words[second],
                third=words[third],
                model=model,
            )
        )
    return titles
