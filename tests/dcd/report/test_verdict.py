import pytest

from dcd.report.verdict import verdict
from tests.dcd.report.run_records import Right, record


def sentences(**methods: Right) -> tuple[str, ...]:
    return verdict(record(methods))


@pytest.mark.parametrize(
    ("selected", "headline"),
    [
        (Right(75, 95), "Better on the failures, and better on test."),
        (Right(75, 80), "Better on the failures, with no clear change on test."),
        (Right(75, 60), "Better on the failures, but worse on test."),
        (Right(40, 95), "No clear change on the failures, but better on test."),
        (Right(41, 79), "No clear change, neither on the failures nor on test."),
        (Right(40, 60), "No clear change on the failures, and worse on test."),
        (Right(20, 95), "Worse on the failures, though better on test."),
        (Right(20, 80), "Worse on the failures, with no clear change on test."),
        (Right(20, 60), "Worse on the failures and on test."),
    ],
)
def test_the_headline_says_what_became_of_both(selected: Right, headline: str):
    assert sentences(none=Right(40, 80), selected=selected)[0] == headline


def test_the_next_two_sentences_give_the_figures():
    _, heldout, test, *_ = sentences(none=Right(40, 80), selected=Right(75, 60))
    assert heldout.startswith(
        "On images like your failures (debug_heldout) accuracy rose from 40.0 % to 75.0 %: "
        "+35.0 points (95 % interval +"
    )
    assert test.startswith("On test it fell from 80.0 % to 60.0 %: −20.0 points (95 % interval −")
    assert "over 2 seeds" in test


def test_an_unclear_change_is_called_neither_gain_nor_loss():
    _, heldout, *_ = sentences(none=Right(40, 80), selected=Right(41, 80))
    # One image of 100 moved one way: the interval starts at zero.
    assert "went from 40.0 % to 41.0 %" in heldout
    assert "neither a gain nor a loss" in heldout


def test_a_better_baseline_stands_in_the_headline_and_in_a_sentence():
    found = sentences(none=Right(40, 80), whole_pool=Right(90, 80), selected=Right(75, 80))
    assert found[0].endswith("; whole_pool beat it on the failures.")
    assert "whole_pool did better on debug_heldout: 90.0 %, 15.0 points (95 % interval" in found[3]
    assert not any(sentence.startswith("Ahead on both") for sentence in found)


def test_a_baseline_ahead_on_both_is_named():
    found = sentences(none=Right(40, 80), whole_pool=Right(90, 85), selected=Right(75, 80))
    assert "Ahead on both debug_heldout and test: whole_pool." in found


def test_a_baseline_that_cannot_be_told_apart_is_said_to_be():
    found = sentences(none=Right(40, 80), random=Right(74, 80), selected=Right(75, 80))
    assert "beat" not in found[0]
    assert "random cannot be told apart from it on debug_heldout: 74.0 %" in found[3]


def test_the_closest_of_worse_baselines_is_named():
    found = sentences(
        none=Right(40, 80), random=Right(45, 80), error_sample=Right(60, 80), selected=Right(75, 80)
    )
    assert found[3].startswith(
        "All 2 baselines did worse on debug_heldout; the closest, error_sample, reached 60.0 %, "
        "15.0 points"
    )


def test_a_variant_is_no_baseline():
    found = sentences(none=Right(40, 80), mine_k5=Right(90, 80), selected=Right(75, 80))
    assert found[0] == "Better on the failures, with no clear change on test."
    assert "No baseline ran beside it" in found[3]


def test_where_test_fell_the_best_method_that_kept_it_is_named():
    found = sentences(
        none=Right(40, 80),
        error_sample=Right(55, 80),
        random=Right(45, 80),
        random_in_label=Right(70, 50),
        selected=Right(75, 60),
    )
    assert (
        "Of the methods without a clear loss on test, error_sample did best on debug_heldout: "
        "55.0 %, with 80.0 % on test."
    ) in found


def test_one_seed_is_said_to_be_one():
    found = verdict(record({"none": Right(40, 80), "selected": Right(75, 80)}, seeds=[3]))
    assert "one seed)" in found[1]


def test_modes_that_got_worse_are_counted():
    # `selected` loses image 39, of mode m1 and label dog.
    found = sentences(none=Right(40, 80), selected=Right(39, 80))
    assert found[-1] == (
        "Worse than before on 1 of 2 failure modes; most on dog, mode m1, 40.0 % to 38.0 %."
    )


def test_picks_and_their_precision_are_told():
    found = sentences(none=Right(40, 80), selected=Right(75, 80))
    assert (
        "For 6 failures 12 images were added to train (mean over seeds); "
        "75.0 % of them carry the right label."
    ) in found


def test_failures_that_the_model_gets_right_are_told():
    found = sentences(none=Right(100, 80), selected=Right(100, 80))
    assert found[2].startswith("The model without anything added gets all of debug_heldout right")
    assert not any(
        "no failures of it" in said
        for said in sentences(none=Right(99, 80), selected=Right(100, 80))
    )
