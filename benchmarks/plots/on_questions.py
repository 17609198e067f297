"""What the rows of a table reach on parts of the test questions."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from benchmarks.plots.material import Material
from benchmarks.slices import Questions, questions_of, reached
from synergen.contract import Task
from synergen.evaluation.intervals import Interval

Key = TypeVar("Key")
Cell = tuple[str, str, int, Key, int, Interval]
"""Metric, method, seeds, which part, its questions, and what the method reaches there."""


def on_questions(
    material: Material, cut: Callable[[Questions], Mapping[Key, np.ndarray]]
) -> Iterator[tuple[str, list[Cell[Key]]]]:
    """By task, the name of its figure and a cell a method and part that two users or more were asked in.

    Args:
        cut: the parts, (Q,) bool by key.

    Raises:
        UserError: the data set is not here or not that of the records, or its questions are requests with slates.
    """
    dataset, blocks = material.dataset(), material.main_blocks()
    for block in blocks:
        column, cells = material.main_column(block), []
        questions = questions_of(dataset, Task(str(block.task)))
        parts = cut(questions)
        for row in material.rows(block):
            ranks, metric = material.ranks(row, column), material.reading(row, column)[1]
            for key, chosen in parts.items():
                value = reached(ranks, metric, questions, chosen)
                if value is not None:
                    about = f"{block.task} {column}", row.method.method, len(ranks)
                    cells.append((*about, key, int(chosen.sum()), value))
        if cells:
            yield (str(block.task) if len(blocks) > 1 else ""), cells
