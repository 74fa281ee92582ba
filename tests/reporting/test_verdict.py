from pipeline.reporting.verdict import verdict
from tests.reporting.synthetic import CHOICE, RESULTS, scores

END = {"alpha": 1.0, "choice": CHOICE}
KEPT = "models/final is the trained model itself (α = 1): the best on validation."
UNKNOWN = "No general set was measured, so what it forgot is unknown."


def test_a_gain_on_the_target_and_a_loss_elsewhere():
    assert verdict(RESULTS) == [
        "On 500 test pictures the fine-tuned model names 91 % correctly; the base 42 %: "
        "+49 points [45, 53].",
        "On base_slice it lost 7 points [5, 9].",
        KEPT,
    ]


def test_no_difference_is_said_with_its_interval():
    same = scores(0.5, 0.51, -0.02, 0.04, images=1)
    assert verdict({"target": same, "general": {"art": same}, **END}) == [
        "On 1 test picture the fine-tuned model names 51 % correctly; the base 50 %: "
        "no difference shown (+1 points [−2, 4]).",
        "On art no difference was shown in zero-shot accuracy (+1 points [−2, 4]).",
        KEPT,
    ]


def test_a_loss_on_the_target_is_not_dressed_up():
    assert verdict({"target": scores(0.5, 0.4, -0.15, -0.05), "general": {}, **END}) == [
        "On 500 test pictures the fine-tuned model names 40 % correctly; the base 50 %: "
        "−10 points [−15, −5], worse than before.",
        UNKNOWN,
        KEPT,
    ]


def test_a_general_set_that_was_trained_on_proves_little():
    seen = {**scores(0.5, 0.51, -0.02, 0.04), "trained": 40}
    told = verdict({**RESULTS, "general": {"art": seen}, **END})[1]
    assert told == (
        "On art no difference was shown in zero-shot accuracy (+1 points [−2, 4]). "
        "But 40 of its 500 pictures were trained on, so it proves little."
    )


def test_without_labels_finding_captions_is_what_counts():
    target = scores(0.4, 0.6, 0.16, 0.24, labels=False, images=12345)
    art = scores(0.4, 0.45, 0.02, 0.08)
    assert verdict({"target": target, "general": {"art": art}, **END}) == [
        "On 12,345 test pictures the fine-tuned model finds the right caption first for 60 %; "
        "the base for 40 %: +20 points [16, 24].",
        "On art it gained 5 points in zero-shot accuracy [2, 8].",
        KEPT,
    ]


def test_numbers_that_rounding_would_bend_keep_a_digit():
    # 91 - 43 would be 48, but the gain 48.8 rounds to 49.
    does_not_add_up = scores(0.426, 0.914, 0.45, 0.53)
    assert "91.4 % correctly; the base 42.6 %: +48.8 points [45.0, 53.0]" in _first(does_not_add_up)
    not_all = scores(0.9, 0.996, 0.09, 0.1)
    assert "99.6 %" in _first(not_all)
    not_zero = scores(0.5, 0.506, 0.001, 0.011)
    assert "+0.6 points [0.1, 1.1]" in _first(not_zero)


def _first(target):
    return verdict({"target": target, "general": {}, **END})[0]
