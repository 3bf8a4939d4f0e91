from dataclasses import replace

import pyarrow as pa

from dcd.report.curve_figure import chosen_alphas, interpolation, lines, mean_curve
from dcd.report.page import render
from tests.dcd.report.run_records import noise, record

SPLITS = ("val", "debug_val", "debug_heldout", "test")


def curve() -> pa.Table:
    """Two seeds: debug_val rises with alpha, the others fall; 0.5 and 0.7 are chosen."""
    rows = [
        {
            "line": "original – fine-tuned",
            "alpha": alpha / 10,
            "split": split,
            "accuracy": 0.6 + (0.02 if split == "debug_val" else -0.01) * alpha + 0.1 * seed,
            "chosen": alpha == 5 + 2 * seed,
            "seed": seed,
        }
        for seed in (0, 1)
        for split in SPLITS
        for alpha in range(11)
    ]
    return pa.Table.from_pylist(rows)


def test_the_curve_is_a_mean_over_seeds():
    means = mean_curve(curve())
    assert set(means) == set(SPLITS)
    assert [alpha for alpha, _ in means["test"]] == [i / 10 for i in range(11)]
    assert abs(means["debug_val"][0][1] - 0.65) < 1e-9
    assert chosen_alphas(curve()) == [0.5, 0.7]


def test_the_figure_names_every_split_and_is_the_same_every_time():
    svg = interpolation(curve())
    assert all(f">{split}<" in svg for split in SPLITS)
    assert svg == interpolation(curve())
    assert "style=" not in svg
    assert "alpha: 0 original, 1 fine-tuned" in svg
    assert "alpha: 0 none, 1 targeted" in interpolation(curve(), ("none", "targeted"))


def test_the_report_shows_the_curve_only_where_there_is_one():
    made = record()
    assert 'id="ensemble"' not in render(made, noise(8))
    page = render(replace(made, curve=curve()), noise(8))
    assert "the chosen alpha: 0.5, 0.7" in page
    assert "<b>original</b> and <b>fine-tuned</b>" in page


def test_every_line_has_a_figure_and_the_choice_its_reason():
    of_line = curve().to_pylist()
    for row in of_line:
        row["line"] = "none – targeted" if row["seed"] else "whole_pool – targeted"
    reason = "Seed 0: 0.5 whole_pool + 0.5 targeted: <the best>."
    made = replace(record(), curve=pa.Table.from_pylist(of_line), chosen=(reason,))
    page = render(made, noise(8))
    assert [line.alphas for line in lines(made.curve)] == [[0.7], [0.5]]
    assert "<b>whole_pool</b> and <b>targeted</b>" in page
    assert "&lt;the best&gt;" in page
