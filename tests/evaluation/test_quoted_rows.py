"""Tables as people print them, in three formats: which number is whose. Expected values are read off by eye."""

from pathlib import Path

import pytest

from synergen.errors import UserError
from synergen.evaluation.quoted_rows import QuotedRow, quoted_rows
from synergen.evaluation.table_cells import read_cells


def rows_of(folder: Path, name: str, text: str) -> list[QuotedRow]:
    """All rows of a file with this text."""
    (folder / name).write_text(text, encoding="utf-8")
    return [row for cells in read_cells(folder / name) for row in quoted_rows(cells)]


def values(row: QuotedRow) -> dict[str, float]:
    """In the table's own unit."""
    return {str(one): round((100 if row.percent else 1) * number.value, 9) for one, number in row.values.items()}


LATEX = r"""
\begin{table}[t]\centering
\caption{Results, 5\% better than \citet{someone}. R@5 is recall.}
\begin{tabular}{l|ccc|ccc} % columns & more
\toprule
\multirow{2}{*}{Method} & \multicolumn{3}{c|}{\textbf{Recommendation} (no query)} & \multicolumn{3}{c}{Search} \\
\cmidrule(lr){2-4}\cmidrule(lr){5-7}
 & R@1 & R@5 $\uparrow$ & N@5 & R@1 & R@5 & N@5 \\
\midrule
\rowcolor{gray!20}
SynerGen~\cite{a,b} & 31.36 & \textbf{59.36}$^{\dagger}$ & {\bf 46.13} & 63.35 & 85.25 & \underline{75.41} \\[2pt]
% TEM & 1 & 2 & 3 & 4 & 5 & 6 \\
TEM$^\ast$ & - & -- & \multicolumn{1}{c}{--} & $40.52_{\pm 0.31}$ & $\mathbf{81.69} \pm 0.2$ & 63.03\,\% \\
\multicolumn{7}{l}{\emph{ours}} \\
CoPPS & & & & \textcolor{red}{31.17} & 66.16\textsuperscript{1} & 62.81 (0.4) \\
\bottomrule
\end{tabular}
\end{table}
"""


def test_latex_with_spans_marks_and_comments(tmp_path: Path) -> None:
    """Two groups of columns; what is raised, bracketed or behind ± is no number of its own."""
    rows = rows_of(tmp_path, "a.tex", LATEX)
    assert {row.name: values(row) for row in rows} == {
        "SynerGen (Recommendation (no query))": {"R@1": 31.36, "R@5": 59.36, "N@5": 46.13},
        "SynerGen (Search)": {"R@1": 63.35, "R@5": 85.25, "N@5": 75.41},
        "TEM (Search)": {"R@1": 40.52, "R@5": 81.69, "N@5": 63.03},
        "CoPPS (Search)": {"R@1": 31.17, "R@5": 66.16, "N@5": 62.81},
    }
    assert all(row.percent for row in rows)
    assert [row.name for row in rows if row.conflicts()] == ["CoPPS (Search)"]


def test_latex_with_methods_as_columns(tmp_path: Path) -> None:
    """Data sets reach down, improvements are no method, fractions stay fractions."""
    text = r"""
    \begin{tabular*}{\textwidth}{llccr}
    \hline
    Dataset & Metric & SASRec & \textbf{BERT4Rec} & Improv. \\ \hline
    \multirow{2}{*}{Beauty} & HR@5 & 0.0387 & .0203 & 12.5\% \\
     & NDCG@5 & \underline{0.0249} & 0.0124 & 9\% \\ \hline
    \multirow{2}{*}{Sports} & HR@5 & 0.0233 & 0.0115 & -3\% \\
     & NDCG@5 & 0.0254 & 0.0075 & \\
    \hline
    \end{tabular*}
    """
    rows = rows_of(tmp_path, "b.tex", text)
    assert {row.name: values(row) for row in rows} == {
        "SASRec (Beauty)": {"R@5": 0.0387, "N@5": 0.0249},
        "BERT4Rec (Beauty)": {"R@5": 0.0203, "N@5": 0.0124},
        "SASRec (Sports)": {"R@5": 0.0233, "N@5": 0.0254},
        "BERT4Rec (Sports)": {"R@5": 0.0115, "N@5": 0.0075},
    }
    assert [row.name for row in rows if row.conflicts()] == ["SASRec (Sports)"]


def test_latex_cells_of_several_lines(tmp_path: Path) -> None:
    """As table editors write them: a heading in a small tabular or a makecell, settings before the columns."""
    text = r"""
    \begin{tabular}[t]{@{}l*{2}{c}>{\bfseries}c@{}}
    \begin{tabular}[c]{@{}c@{}}The\\ method\end{tabular} & \makecell{Recall\\@5} & Recall@10 & NDCG@5 \\ \midrule
    \begin{tabular}[c]{@{}l@{}}SAS-\\Rec\end{tabular} & .3 & .4 & .2 \\
    \end{tabular}
    \begin{tabularx}{\linewidth}{lX} Method & MRR \\ A & 12.5 \\ \end{tabularx}
    """
    rows = rows_of(tmp_path, "h.tex", text)
    assert [(row.name, values(row), row.percent) for row in rows] == [
        ("SAS- Rec", {"R@5": 0.3, "R@10": 0.4, "N@5": 0.2}, False),
        ("A", {"MRR": 12.5}, True),
    ]


MARKDOWN = """
# Results | of all

Some prose | with a bar, but no table.

|  | Beauty | | | Toys | | |
|---|---|:--:|---|---|---|---|
| Model | Recall@5 | Recall@10 | NDCG@10 | Recall@5 | Recall@10 | NDCG@10 |
| Ours - GRU | +0.1 | -0.2 | −3.0 | – | - | n/a |
| **Ours**† | **5.35%** ± 0.1 | <u>9.28</u> *(9.11)* | 5.65<sup>1</sup> | 5.1 | 4.9 | 3.0 |
| GRU \\| x | 5.35 | 9.28 (0.2) | `9.65` | pending | n/a | |

Model | MRR
--- | ---
A | 0.5
"""


def test_markdown_with_two_lines_of_headings(tmp_path: Path) -> None:
    """The upper heading reaches to the next one; a second table has its own unit."""
    rows = rows_of(tmp_path, "c.md", MARKDOWN)
    assert {row.name: values(row) for row in rows} == {
        "Ours (Beauty)": {"R@5": 5.35, "R@10": 9.28, "N@10": 5.65},
        "Ours (Toys)": {"R@5": 5.1, "R@10": 4.9, "N@10": 3.0},
        "GRU | x (Beauty)": {"R@5": 5.35, "R@10": 9.28, "N@10": 9.65},
        "A": {"MRR": 0.5},
    }
    assert [row.percent for row in rows] == [True, True, True, False]
    assert [row.name for row in rows if row.conflicts()] == ["Ours (Toys)", "GRU | x (Beauty)"]


@pytest.mark.parametrize(
    "text",
    [
        "method,R@5,N@5\nA,0.5,0.4\nB,1e-3,5E-4\n",
        "method;R@5;N@5\nA;0,5;0,4\nB;0,001;0,0005\n",
        "method\tR@5\tN@5\nA\t.5\t.4\nB\t.001\t.0005\n",
        "\ufeffmethod,Recall,NDCG\n,@5,@5\nA,0.5,0.4\nB,0.001,0.0005\n",
    ],
)
def test_csv_by_any_separator(text: str, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "d.csv", text)
    assert {row.name: values(row) for row in rows} == {
        "A": {"R@5": 0.5, "N@5": 0.4},
        "B": {"R@5": 0.001, "N@5": 0.0005},
    }


def test_the_last_digit_says_how_much_is_rounded(tmp_path: Path) -> None:
    """Half a unit: of 53.2 percent 0.0005, of 53 percent 0.005; numbers with all digits are taken at a millionth."""
    rows = rows_of(tmp_path, "e.csv", "m,R@5\nA,53.2\nB,53\nC,53.123456789012345\n")
    assert [next(iter(row.values.values())).half_unit for row in rows] == pytest.approx([5e-4, 5e-3, 1e-6])


def test_headings_that_come_again_begin_anew(tmp_path: Path) -> None:
    """One table, two data sets below each other; equal headings side by side are told apart by number."""
    text = "Beauty,R@5,R@5\nA,0.5,0.6\nToys,R@10,N@10\nA,0.7,0.3\n"
    rows = rows_of(tmp_path, "f.csv", text)
    assert [(row.name, values(row)) for row in rows] == [
        ("A", {"R@5": 0.5}),
        ("A (2)", {"R@5": 0.6}),
        ("A", {"R@10": 0.7, "N@10": 0.3}),
    ]


def test_a_csv_of_this_project_keeps_rankings_apart(tmp_path: Path) -> None:
    """Ours are fractions with shared ranks, the paper's percent; R@300 is of all items, MRR of what was shown."""
    text = (
        "table,dataset,method,group,block,metric,status,seeds,mean,low,high,paper,runs,ranking\n"
        "4,s,Full,,search,R@300,done,1,0.51,0,0,72.96,x,full\n"
        "4,s,Full,,search,MRR,done,1,0.5,0,0,57.30,x,slate\n"
        "4,s,Full,,search,Seconds,done,1,99,0,0,,x,\n"
    )
    rows = rows_of(tmp_path, "g.csv", text)
    assert [(row.name, values(row), row.percent, row.half_ranks) for row in rows] == [
        ("Full (search, full)", {"R@300": 0.51}, False, True),
        ("Full (search, slate)", {"MRR": 0.5}, False, True),
        ("Full (search, full), the paper's", {"R@300": 72.96}, True, False),
        ("Full (search, slate), the paper's", {"MRR": 57.30}, True, False),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.docx", "x", r"read from .csv, .tsv, .md or .tex"),
        ("a.md", "no table | here", "no table was found"),
        ("a.tex", r"\section{No table}", "no table was found"),
        ("a.csv", "", "no table was found"),
    ],
)
def test_files_without_a_table_are_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        rows_of(tmp_path, name, text)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_cells(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_cells(tmp_path / "binary.csv")
