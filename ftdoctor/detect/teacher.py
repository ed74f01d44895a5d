"""Detector on distilled labels: whether the student's accuracy stops at its teacher's."""

from __future__ import annotations

from ftdoctor.detect import absent, detector, gold, present, stats, unobservable
from ftdoctor.detect.evaluation import task_metrics
from ftdoctor.detect.points import EVAL_FILES, fact_number
from ftdoctor.detect.rows import HOMES
from ftdoctor.model import Observation, Run

MINIMUM = 6  # evaluations: two thirds of three points show a level


@detector("teacher.caps_student")
def caps_student(run: Run, *, within: float, below: float) -> Observation:
    """Find a student accuracy that levels off no more than `within` above its teacher's.

    The teacher's accuracy is the share of labels that agree with the ground truth; one of `below`
    and more caps nothing worth speaking of.
    """
    stated = fact_number(run, "data.teacher_accuracy")
    agreement = gold.agreement(run)
    if stated is None and agreement is None:
        return unobservable("The teacher's accuracy is not known", HOMES["gold"])
    teacher = stated[0] if stated else (agreement or 0.0)
    curves = [p for p in task_metrics(run) if "acc" in p.series.name.lower() and len(p) >= MINIMUM]
    if not curves:
        return unobservable("The student's accuracy was not evaluated often enough", *EVAL_FILES)
    student = curves[0]
    end, before = (
        stats.level(student.values, "last-third"),
        float(sorted(student.values[: -(len(student) // 3)])[-1]),
    )
    text = f"{student.label} ends at {end:.2f}; {teacher:.0%} of the labels are right"
    level = abs(end - before) <= within
    if teacher < below and level and end <= teacher + within:
        return present(text, student.fact(-1), curves=(student.curve,))
    return absent(text, student.fact(-1))
