"""The page of an evaluation: figures with intervals, reliability, confusion, every wrong run."""

from __future__ import annotations

from collections.abc import Sequence

from ftdoctor import __version__
from ftdoctor.evaluate import Outcome, Scores, misjudged, rate, said, wanted, within
from ftdoctor.render.html import environment, styles

LISTED = 500


def render_evaluation(scores: Scores, results: Sequence[Outcome], name: str) -> str:
    """Return the evaluation as one HTML page without scripts or requests."""
    wrong = misjudged(results)
    rates = (
        ("Right cause first", scores.first),
        ("Among the first three", scores.first_three),
        ("False alarms on healthy runs", scores.false_alarms),
        ("Confident on unclear runs", scores.unclear_alarms),
    )
    numbers = (
        (
            "Mean reciprocal rank",
            f"{scores.reciprocal_rank:.3f}{within(scores.reciprocal_rank_interval)}",
        ),
        ("Brier score", f"{scores.brier:.3f}{within(scores.brier_interval)}"),
        (
            "Calibration error",
            f"{scores.calibration_error:.3f}{within(scores.calibration_error_interval)}",
        ),
        ("Seconds per run", f"median {scores.seconds_median:.2f}, most {scores.seconds_most:.2f}"),
        ("Unreadable", str(scores.errors)),
    )
    template = environment().get_template("evaluate.html.j2")
    return template.render(
        name=name,
        css=styles("base.css", "evaluate.css"),
        generator=__version__,
        count=len(results),
        rates=rates,
        numbers=numbers,
        reliability=[(p, rate(round(t * n), n)) for p, t, n in scores.reliability],
        confusion=scores.confusion,
        wrong=[(r.label.id, wanted(r), said(r)) for r in wrong[:LISTED]],
    )
