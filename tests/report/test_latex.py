"""table.tex: its structure, its escaping, and that LaTeX sets it."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import record

from fedbench.report import latex
from fedbench.report.frame import rows

NASTY = '50%_of {a} & #1 $x$ ~^ \\end{tabular} <script>|"`--é«中\n\x07'


def made(name="m_1"):
    return [
        *(record(name, seed, 0.7 + 0.02 * seed) for seed in range(3)),
        *(record("b", seed, 0.70 + 0.01 * seed) for seed in range(3)),
        *(record("centralised", seed, 0.9, control=True) for seed in range(3)),
        record("a", beta=0.5),
    ]


def test_a_block_is_a_booktabs_table_with_controls_apart():
    text = latex.to_latex(rows(made()), "toy")
    first, second = text.split(r"\begin{table}")[1:]
    lines = first.splitlines()
    rules = [place for place, line in enumerate(lines) if line in (r"\toprule", r"\midrule")]
    assert [lines[place] for place in rules] == [r"\toprule", r"\midrule", r"\midrule"]
    assert lines[rules[1] + 1].startswith(r"{}m\_1 & \textbf{72.00 $\pm$ 2.00} (3) & ")
    assert lines[rules[1] + 2].startswith(r"{}b & \underline{71.00 $\pm$ 1.00} (3)$^{\approx}$ & ")
    assert lines[rules[2] + 1].startswith(r"{}centralised$^\dagger$ & 90.00 $\pm$ 0.00 (3) & ")
    assert r"\bottomrule" in lines
    assert r"$\beta$=0.1" in first
    assert second.count(r"\midrule") == 1  # no controls, no rule before them
    columns = lines[rules[0] - 1].split("{")[2].rstrip("}")
    assert all(line.count("&") == len(columns) - 1 for line in lines if line.endswith(r"\\"))


def test_what_means_something_to_latex_is_escaped():
    assert latex.escape("a_b & 5 % #{x}") == r"a\_b \& 5 \% \#\{x\}"
    assert latex.escape("\\input{x}$") == r"\textbackslash{}input\{x\}\$"
    assert latex.escape("β=0.1 · μ\n中") == r"$\beta$=0.1 $\cdot$ $\mu$ [U+4E2D]"
    assert latex.escape("a--b – c") == "a-{}-b -- c"
    assert latex.escape("a---b") == "a-{}-{}-b"  # no dash of any length
    assert latex.escape("–-–– a") == "--{}-{}--{}-- a"
    assert latex.escape("[U+0000]") == "[U+0000]"


@given(st.text())
def test_no_character_gets_through_that_could_do_harm(text):
    found = latex.escape(text)
    bare = re.sub(
        r"\\(textbackslash|text[a-z]+|char34)\{\}|\\[{}$&#%_]|\$\\[a-z]+\$|-\{\}-", "", found
    )
    assert not set(bare) & set('\\{}$&#%_^~<>|"`')
    assert all(" " <= character <= "ÿ" for character in found)


@pytest.fixture
def typeset(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex")

    def run(text):
        return set_by_latex(tmp_path, text)

    return run


def set_by_latex(folder, text):
    """Set a table in an article, and return what LaTeX says."""
    (folder / "table.tex").write_text(text, encoding="utf-8")
    (folder / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\n"
        "\\begin{document}\\input{table}\\ref{tab:toy-suite-2}\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Output written on paper.pdf" in done.stdout
    return done.stdout


def test_latex_sets_it(typeset):
    everything = "".join(map(chr, range(0xA1, 0x100)))
    said = typeset(latex.to_latex(rows(made(NASTY + everything)), "toy_suite", "b"))
    assert "Overfull" not in re.sub(r"Overfull \\hbox \([^)]*\) in paragraph", "", said)


@pytest.mark.parametrize("control", [False, True])
def test_latex_sets_names_that_look_like_options(typeset, control):
    names = ("[a]", "*b", "中", "[1cm]")
    found = [record(name, accuracy=place / 9, control=control) for place, name in enumerate(names)]
    typeset(latex.to_latex(rows([*found, record("m")]), "toy-suite"))


def test_latex_sets_more_tables_than_it_holds_back(typeset):
    found = rows(record("m", beta=(1 + block) / 100) for block in range(60))
    text = latex.to_latex(found, "toy-suite")
    assert text.count(r"\clearpage") == 3
    typeset(text)
