"""Detectors on reinforcement learning and reward models: rewards, groups, lengths, scores.

The loss of a policy gradient crosses zero in healthy runs and measures no progress, so nothing
here asks for its level. A logged reward is a mean of few samples: thirds are compared, not points.
"""

from __future__ import annotations

import re

from ftdoctor.detect import absent, detector, onset, present, stats, unobservable
from ftdoctor.detect.points import (
    Points,
    curve,
    fact_number,
    kind_of,
    number,
    points,
    rows_needed,
    setting_number,
    too_few,
)
from ftdoctor.model import Observation, Run, Span, State
from ftdoctor.render.text import plural

REWARDS = ("reward", "objective/scores", "objective/rlhf_reward", "rewards/mean", "score")
RL_FILES = ("trainer_state.json or metrics.jsonl with rewards", "training log (stdout)")
LN2 = 0.6931
REWARD_TERM = re.compile(r"rewards/[^/]+/mean$")
SCORE_PAIRS = (
    ("rewards/chosen", "rewards/rejected"),
    ("chosen_reward", "rejected_reward"),
    ("positive_score", "negative_score"),
    ("mean_chosen", "mean_rejected"),
)


def rewards(run: Run, minimum: int) -> Points | Observation:
    """Return the curve of the total reward, or why there is none."""
    for name in REWARDS:
        if run.series(name) is not None:
            return curve(run, name, minimum=minimum)
    return unobservable("no reward was logged", *RL_FILES)


def _ceiling(found: Points) -> float | None:
    """Return 1.0 for rewards that keep within 0 and 1; otherwise the ceiling is not known."""
    values = found.values
    return 1.0 if float(values.min()) >= 0.0 and float(values.max()) <= 1.0 else None


@detector("rl.reward_rises")
def reward_rises(run: Run, *, minimum: int = 20, share: float = 0.05) -> Observation:
    """Find that the reward rises from the first to the last third, beyond noise."""
    found = rewards(run, minimum)
    if isinstance(found, Observation):
        return found
    shift = stats.shift_of_thirds(found.values)
    text = _in_words(found, shift)
    risen = _has_risen(found, shift, share)
    return (present if risen else absent)(text, found.fact(-1), curves=(found.curve,))


def _has_risen(found: Points, shift: stats.Shift, share: float) -> bool:
    """Say whether a change is significant (2 errors) and worth it.

    Worth it is `share` of the range and half the scatter of single rows; in a run of some hundred
    rows a negligible change is significant too.
    """
    spread = max(float(found.values.max() - found.values.min()), 1e-9)
    worth = max(share * spread, 0.5 * stats.noise(found.values))
    return shift.errors > 2 and shift.change > worth


def _in_words(found: Points, shift: stats.Shift) -> str:
    return (
        f"{found.label} goes from {number(shift.before)} (first third) to {number(shift.after)} "
        f"(last third) in {len(found)} rows, {shift.errors:+.1f} standard errors"
    )


@detector("rl.reward_stalls")
def reward_stalls(
    run: Run, *, surely: bool, minimum: int = 20, solved: float = 0.85, worth: float = 0.15
) -> Observation:
    """Find a reward that does not rise from the first to the last third of the run.

    `surely`: the reward is no higher, or a rise by `worth` of its range is excluded (2 errors);
    otherwise a rise below 2 errors or below 5 % of the range will do. A reward that is near its
    ceiling (`solved` of 1.0 for rewards within 0 and 1) has nowhere to rise to: absent.
    """
    found = rewards(run, minimum)
    if isinstance(found, Observation):
        return found
    shift = stats.shift_of_thirds(found.values)
    text = _in_words(found, shift)
    ceiling = _ceiling(found)
    if ceiling is not None and max(shift.before, shift.after) >= solved * ceiling:
        return absent(f"{text}: near its ceiling of {ceiling:g}", curves=(found.curve,))
    if _has_risen(found, shift, 0.05):
        return absent(text, curves=(found.curve,))
    spread = ceiling or float(found.values.max() - found.values.min())
    excluded = shift.change <= 0 or shift.change + 2 * shift.error < worth * spread
    if surely and not excluded:
        return unobservable(f"{text}: the noise could hide a rise", "a longer log", "evaluations")
    return present(text, found.fact(0), found.fact(-1), curves=(found.curve,))


@detector("rl.reward_at_floor")
def reward_at_floor(run: Run, *, share: float = 0.8, minimum: int = 20) -> Observation:
    """Find a reward exactly at its lowest value on `share` of the rows, in the last half too.

    A third of `minimum` rows is enough if the reward is the same on all of them.
    """
    import numpy as np

    found = rewards(run, minimum // 3)
    if isinstance(found, Observation):
        return found
    floor = float(found.values.min())
    held = np.abs(found.values - floor) <= 1e-9
    late = stats.part(held.astype(float), "last-half")
    text = f"{found.label} is {number(floor)} on {int(held.sum())} of {len(found)} rows"
    if len(found) < minimum and share <= held.mean() < 1:
        return too_few(found, minimum)
    if floor > 0 or held.mean() < share or late.mean() < share:
        return absent(text, curves=(found.curve,))
    return present(text, found.fact(0), curves=(found.curve,), span=Span(found.step(0)))


@detector("rl.reward_saturated")
def reward_saturated(run: Run, *, at: float = 0.9, minimum: int = 10) -> Observation:
    """Find a reward within 0 and 1 whose last third averages above `at`: solved, or trivial."""
    found = rewards(run, minimum)
    if isinstance(found, Observation):
        return found
    ceiling = _ceiling(found)
    late = float(stats.part(found.values, "last-third").mean())
    text = f"{found.label} averages {number(late)} over the last third"
    if ceiling is None:
        spread = float(found.values.max() - found.values.min())
        still = float(stats.part(found.values, "last-third").std()) < 0.02 * max(spread, 1e-9)
        top = late > float(found.values.min()) + 0.95 * spread
        return (present if still and top and spread > 0 else absent)(text, curves=(found.curve,))
    return (present if late >= at else absent)(text, found.fact(-1), curves=(found.curve,))


@detector("rl.groups_without_variance")
def groups_without_variance(run: Run, *, above: float = 0.8, minimum: int = 10) -> Observation:
    """Find that most groups give one reward to all their completions, so that nothing is learnt.

    Read from frac_reward_zero_std, 1 - frac_mixed, reward_std, or the share of rows whose loss is
    exactly 0, whichever is logged; judged on the last half.
    """
    import numpy as np

    minimum = rows_needed(run, minimum)
    for name, turned in (("frac_reward_zero_std", False), ("frac_mixed", True)):
        found = points(run, name)
        if found is not None and len(found.finite) >= minimum:
            found = found.finite
            share = stats.level(found.values, "last-half")
            share = 1 - share if turned else share
            text = f"{share:.0%} of the groups have no spread in reward (median of the last half)"
            return (present if share > above else absent)(text, found.fact(-1), curves=(name,))
    for name, words in (("reward_std", "reward_std is 0"), ("loss", "the loss is exactly 0")):
        found = points(run, name)
        if found is not None and len(found.finite) >= minimum and run.series("reward") is not None:
            found = found.finite
            dead = np.abs(stats.part(found.values, "last-half")) < 1e-6
            if name == "loss" and not _loss_tells(run, found):
                continue
            text = f"{words} on {int(dead.sum())} of the last {len(dead)} rows"
            if float(dead.mean()) > above:
                return present(text, found.fact(-1), curves=(name, "reward"))
            return absent(text, found.fact(-1))
    return unobservable("no spread of rewards within groups was logged", *RL_FILES)


def _loss_tells(run: Run, found: Points) -> bool:
    """Say whether a zero loss means zero advantage here: it is not 0 on the other rows.

    In TRL the loss of an on-policy step is 0 while its gradient is not.
    """
    import numpy as np

    if run.series("grad_norm") is not None:
        return False
    others = np.abs(found.values[np.abs(found.values) >= 1e-6])
    return len(others) >= 3 and float(np.median(others)) > 0.05


@detector("rl.reward_falls")
def reward_falls(run: Run, *, minimum: int = 20, share: float = 0.15) -> Observation:
    """Find a reward whose last third is below the first by 2 errors and `share` of its range."""
    found = rewards(run, minimum)
    if isinstance(found, Observation):
        return found
    shift = stats.shift_of_thirds(found.values)
    spread = float(found.values.max() - found.values.min())
    fallen = shift.errors < -2 and -shift.change > share * max(spread, 1e-9)
    text = _in_words(found, shift)
    return (present if fallen else absent)(text, found.fact(-1), curves=(found.curve,))


@detector("rl.reward_drops")
def reward_drops(run: Run, *, share: float = 0.3, window: int = 10) -> Observation:
    """Find a fall of the rolling median by `share` of its range within a tenth of the run."""
    import numpy as np

    found = rewards(run, 3 * window)
    if isinstance(found, Observation):
        return found
    views = np.lib.stride_tricks.sliding_window_view(found.values, window)
    medians = np.median(views, axis=1)
    spread = float(medians.max() - medians.min())
    lag = max(window, len(found) // 10)
    falls = medians[:-lag] - medians[lag:]
    # Four errors of a difference of two window means: the place is searched for, not given.
    noise_limit = 4 * stats.noise(found.values) * np.sqrt(2 / window)
    place = int(falls.argmax()) if len(falls) else 0
    worst = float(falls[place]) if len(falls) else 0.0
    text = f"the reward's median of {window} rows falls by at most {number(worst)}"
    base = max(abs(float(medians.max())), 1e-9)
    if worst <= max(share * spread, noise_limit) or worst < 0.2 * base:
        return absent(text)
    if medians[-1] > medians[place] - 0.3 * worst:
        return absent(f"{text}, and it comes back")
    return present(
        f"the reward falls from {number(float(medians[place]))} to "
        f"{number(float(medians[place + lag]))} from step {found.step(place + window // 2)} on",
        found.fact(place + window // 2),
        curves=(found.curve,),
        span=onset.change(found, rising=False) or onset.at(found, place + window // 2),
    )


@detector("rl.eval_falls_as_reward_rises")
def eval_falls_as_reward_rises(run: Run) -> Observation:
    """Find a held-out reward or score that falls while the training reward rises."""
    risen = reward_rises(run, minimum=10)
    if risen.state is not State.PRESENT:
        return risen
    for name, split in run.series_names():
        if split in ("eval", "test") and any(
            w in name for w in ("reward", "acc", "score", "correct")
        ):
            found = points(run, name, split)
            if found is None or len(found.finite) < 3:
                continue
            found = found.finite
            best, last = float(found.values.max()), float(found.values[-1])
            text = (
                f"{risen.text}; {found.label} goes from its best {number(best)} to {number(last)}"
            )
            fallen = best - last > 2 * max(stats.noise(found.values), 0.02 * abs(best))
            if fallen and last <= found.values[0]:
                return present(text, found.fact(-1), curves=("reward", found.curve))
            return absent(text)
    return unobservable("no held-out reward or score was logged", "held-out evaluations")


@detector("rl.term_lost")
def term_lost(run: Run, *, kept: float = 1 / 3, minimum: int = 20) -> Observation:
    """Find one reward term that falls to a third or less while the total reward rises.

    Only terms that are never negative count: a penalty may well grow in a run that learns.
    """
    risen = reward_rises(run, minimum=minimum)
    if risen.state is not State.PRESENT:
        return risen
    terms = [n for n, split in run.series_names() if split == "train" and REWARD_TERM.match(n)]
    curves = [found.finite for n in terms if (found := points(run, n)) is not None]
    curves = [found for found in curves if len(found) >= minimum and found.values.min() >= 0]
    if len(terms) < 2 or not curves:
        return unobservable("no separate reward terms were logged", "logs with rewards/NAME/mean")
    for found in curves:
        shift = stats.shift_of_thirds(found.values)
        if shift.errors < -2 and shift.after <= kept * shift.before:
            text = f"{risen.text}; {_in_words(found, shift)}"
            return present(text, found.fact(-1), curves=("reward", found.curve))
    return absent(f"{risen.text}; none of {len(curves)} reward terms is lost")


@detector("rl.kl_explodes")
def kl_explodes(run: Run, *, beyond: float = 2.0, window: int = 10) -> Observation:
    """Find a KL to the reference beyond `beyond`, as a median of `window` rows, never one point.

    Limits: axolotl's GRPO guide (0 to 0.5 healthy, above 2 diverged).
    """
    import numpy as np

    name = next((n for n in ("kl", "objective/kl") if run.series(n) is not None), "kl")
    found = curve(run, name, minimum=window)
    if isinstance(found, Observation):
        return found
    width = window if len(found) >= 2 * window else 5
    medians = np.median(np.lib.stride_tricks.sliding_window_view(found.values, width), axis=1)
    limit = beyond if name == "kl" else 10 * beyond
    top = float(medians.max())
    text = f"the median {name} of {width} rows reaches {number(top)}"
    if top <= limit:
        return absent(text, curves=(name,))
    place = int((medians > limit).argmax())
    peak = int(found.values.argmax())
    return present(
        f"{text} (single peak {number(float(found.values[peak]))} at step {found.step(peak)}; "
        f"last {number(float(found.values[-1]))})",
        found.fact(peak),
        curves=(name, "reward"),
        span=onset.change(found) or onset.at(found, place),
    )


@detector("rl.sigmoid_preference")
def sigmoid_preference(run: Run) -> Observation:
    """Find a preference run on the plain sigmoid (DPO) loss, for which ln 2 means "no preference".

    Other loss types and added terms (ORPO, SimPO, IPO, hinge, an SFT term) have another scale.
    """
    if kind_of(run) != "preference":
        return unobservable("this is not a preference run with DPO metrics")
    others = ("odds_ratio_loss", "sft_loss", "nll_loss", "log_odds_ratio")
    for name in others:
        found = points(run, name)
        if found is not None:
            return absent(f"{name} is logged: the loss is not DPO's alone", found.fact(0))
    asked = run.setting("loss_type") or run.setting("pref_loss")
    if asked is not None and str(asked.value).lower() not in ("sigmoid", "['sigmoid']", "none"):
        return absent(f"loss_type is {asked.value}", asked)
    return present("the loss is DPO's sigmoid loss, ln 2 = 0.6931 without a preference")


@detector("rl.rewards_at_start")
def rewards_at_start(run: Run, *, above: float) -> Observation:
    """Find rewards other than 0 before the first update: at step 1 or in an evaluation at 0.

    A row that is logged later is a mean over steps that have changed the policy.
    """
    if kind_of(run) != "preference":
        return unobservable("this is not a preference run with DPO metrics")
    every = setting_number(run, "logging_steps")
    each = every is not None and every[0] == 1
    counted = {f.where.path for f in run.facts.get("log.rows_counted", ()) if not each}
    seen: list[tuple[float, Points]] = []
    for name in ("rewards/chosen", "rewards/rejected"):
        for split, latest in (("train", 1), ("eval", 0)):
            found = points(run, name, split)
            if found is None or found.series.path in counted or not len(found.finite):
                continue
            if found.finite.step(0) <= latest:
                seen.append((abs(float(found.finite.values[0])), found.finite))
    if not seen:
        return unobservable("no rewards were logged before the first update", "logging_steps: 1")
    size, found = max(seen, key=lambda pair: pair[0])
    text = f"{found.label} is {number(float(found.values[0]))} at step {found.step(0)}"
    if size <= above:
        return absent(text, found.fact(0))
    return present(f"{text}, before any update", found.fact(0), curves=(found.curve,))


@detector("rl.scores_equal")
def scores_equal(run: Run, *, within: float = 0.02, minimum: int = 10) -> Observation:
    """Find that a reward model gives both sides of its pairs the same score, to the end.

    The median difference of the last half must be below `within` of the larger score (or of 1),
    and not above three standard errors.
    """
    import numpy as np

    pair = _score_pair(run)
    if pair is None or kind_of(run) == "preference":
        return unobservable("no scores of a reward model's two sides were logged", *RL_FILES)
    one, two = pair
    size = min(len(one), len(two))
    if size < minimum:
        return unobservable(f"{size} rows of scores; {minimum} are needed", "a longer log")
    gap = one.values[:size] - two.values[:size]
    late = stats.part(gap, "last-half")
    middle, error = float(late.mean()), float(late.std() / np.sqrt(len(late)))
    base = max(1.0, stats.level(np.abs(one.values)), stats.level(np.abs(two.values)))
    text = (
        f"{one.label} and {two.label} differ by {number(middle)} on average over the last "
        f"{len(late)} rows ({number(stats.level(one.values, 'last-half'))} and "
        f"{number(stats.level(two.values, 'last-half'))})"
    )
    if abs(middle) > max(within * base, 3 * error if abs(middle) < 5 * within * base else 0.0):
        return absent(text)
    return present(text, one.fact(-1), two.fact(-1), curves=(one.curve, two.curve))


def _score_pair(run: Run) -> tuple[Points, Points] | None:
    """Return the curves of the better and the worse side, whatever the trainer calls them."""
    names = {n.lower().replace(" ", "_"): n for n, split in run.series_names() if split == "train"}
    for better, worse in SCORE_PAIRS:
        if better in names and worse in names:
            one, two = points(run, names[better]), points(run, names[worse])
            if one is not None and two is not None:
                return one.finite, two.finite
    return None


@detector("rl.scores_zero")
def scores_zero(run: Run, *, minimum: int = 3) -> Observation:
    """Find that both scores of a reward model are exactly 0 on every row."""
    if kind_of(run) == "preference":
        return unobservable("preference tuning logs implied rewards, not scores of a reward model")
    pair = _score_pair(run)
    if pair is None:
        return unobservable("no scores of the two sides were logged", *RL_FILES)
    one, two = pair
    if min(len(one), len(two)) < minimum:
        return unobservable(f"{len(one)} rows of scores; {minimum} are needed", "a longer log")
    text = f"{one.label} and {two.label} over {len(one)} rows"
    if not one.values.any() and not two.values.any():
        return present(f"{text} are exactly 0.0", one.fact(0), two.fact(0))
    return absent(f"{text} are not all 0")


def _earned(run: Run, minimum: int = 8) -> Observation | None:
    """Return that the reward is at its top or rose by half of its range: cut answers that score.

    A small rise says little: it may come from the few answers that are not cut.
    """
    found = rewards(run, minimum)
    if isinstance(found, Observation):
        return None
    risen, top = reward_rises(run, minimum=minimum), reward_saturated(run, minimum=minimum)
    shift = stats.shift_of_thirds(found.values)
    spread = _ceiling(found) or float(found.values.max() - found.values.min())
    if risen.state is State.PRESENT and shift.change > 0.5 * spread:
        return risen
    return top if top.state is State.PRESENT else None


@detector("rl.completions_at_limit")
def completions_at_limit(
    run: Run, *, above: float = 0.8, unrewarded: bool = False, minimum: int = 1
) -> Observation:
    """Find completions that end at the length limit: clipped ratio, or min = max = limit.

    `unrewarded`: and the reward neither rises nor is at its top, so that the cut may cost it.
    """
    answer = _at_limit(run, above, minimum)
    if not unrewarded or answer.state is not State.PRESENT:
        return answer
    if (earned := _earned(run)) is not None:
        return absent(f"{answer.text}, but {earned.text}: they are scored", *earned.facts)
    ended = ended_in_vain(run)
    if ended.state is State.PRESENT:
        return absent(f"{answer.text}, but {ended.text}", *ended.facts)
    return answer


def _at_limit(run: Run, above: float, minimum: int) -> Observation:
    import numpy as np

    found = points(run, "completions/clipped_ratio")
    if found is not None and len(found.finite) >= minimum:
        middle = stats.level(found.finite.values)
        rows = plural(len(found.finite), "row")
        text = f"{middle:.0%} of the completions are cut at the length limit ({rows})"
        if middle > above:
            return present(text, found.finite.fact(-1), curves=("completions/clipped_ratio",))
        return absent(text, found.finite.fact(-1))
    shortest, longest = points(run, "completions/min_length"), points(run, "completions/max_length")
    limit = fact_number(run, "max_completion_length", "max_tokens")
    if shortest is None or longest is None or limit is None or len(shortest) < minimum:
        mean = points(run, "completions/mean_length")
        if mean is not None and limit is not None and len(mean.finite) >= minimum:
            share = stats.level(mean.finite.values) / max(limit[0], 1.0)
            text = f"completions have {share:.0%} of the allowed length on average"
            return (present if share > 0.97 else absent)(text, mean.finite.fact(-1), limit[1])
        return unobservable("no share of cut completions was logged", *RL_FILES)
    size = min(len(shortest), len(longest))
    full = np.isclose(shortest.values[:size], limit[0]) & np.isclose(
        longest.values[:size], limit[0]
    )
    rows = f"on {int(full.sum())} of {size} rows"
    text = f"{rows} every completion has the limit of {limit[0]:.0f} tokens"
    return (present if float(full.mean()) > above else absent)(text, shortest.fact(-1), limit[1])


@detector("rl.ended_in_vain")
def ended_in_vain(run: Run, *, share: float = 0.08, least: int = 12) -> Observation:
    """Find completions that ended by themselves and still got the lowest reward, all of them.

    They must be a `share` of all and about `least`; the shares that are logged are multiples of one
    completion's.
    """
    cut, reward = points(run, "completions/clipped_ratio"), rewards(run, 3)
    if cut is None or len(cut.finite) < 3:
        return unobservable("no share of cut completions was logged", *RL_FILES)
    if isinstance(reward, Observation):
        return reward
    ended = 1.0 - cut.finite.values
    if not (ended > 0).any():
        return absent("every completion is cut at the length limit")
    number_of = float(ended.sum() / ended[ended > 1e-6].min())
    floor = float(reward.values.min())
    text = (
        f"{ended.mean():.0%} of the completions ended by themselves (about {number_of:.0f} or more)"
    )
    if floor > 0 or float(reward.values.max()) > floor:
        return absent(f"{text}; the reward is above its lowest value at times")
    if ended.mean() < share or number_of < least:
        return absent(f"{text}: too few to tell")
    return present(f"{text}, and the reward stayed {number(floor)} all the same", reward.fact(-1))


@detector("rl.completions_cut_early")
def completions_cut_early(
    run: Run, *, above: float = 0.8, first: float = 0.1, minimum: int = 10
) -> Observation:
    """Find that more than `above` of the completions were cut in the first share of the rows.

    Absent if the reward rose all the same: then the cut does not keep answers from being scored.
    """
    found = points(run, "completions/clipped_ratio")
    if found is None or len(found.finite) < minimum:
        return unobservable("no share of cut completions was logged", *RL_FILES)
    earned = _earned(run)
    if earned is not None:
        return absent(f"{earned.text}: cut or not, completions are scored", *earned.facts)
    ended = ended_in_vain(run)
    if ended.state is State.PRESENT:
        return absent(ended.text, *ended.facts)
    rows = found.finite
    count = max(3, int(first * len(rows)))
    share = float(stats.level(rows.values[:count]))
    text = f"{share:.0%} of the completions are cut in the first {count} of {len(rows)} rows"
    answer = present if share > above else absent
    return answer(text, rows.fact(0), curves=("completions/clipped_ratio",))


@detector("rl.accuracy_reaches")
def accuracy_reaches(
    run: Run, *, at: float, within: float, window: int = 3, minimum: int = 10
) -> Observation:
    """Find a preference accuracy whose rolling mean reaches `at` within that share of the run."""
    import numpy as np

    found = curve(run, "rewards/accuracies", minimum=minimum)
    if isinstance(found, Observation):
        return found
    means = np.convolve(found.values, np.ones(window) / window, mode="valid")
    reached = np.flatnonzero(means >= at)
    if len(reached) == 0:
        return absent(f"preference accuracy is at most {float(means.max()):.2f}")
    place = int(reached[0])
    text = f"preference accuracy is {float(means[place]):.2f} from row {place + 1} of {len(found)}"
    held = float(np.median(found.values[place:])) >= at
    if place > max(within * len(found), window) or not held:
        return absent(text)
    return present(
        f"{text} on (step {found.step(place)})",
        found.fact(place),
        curves=(found.curve,),
        span=onset.at(found, place),
    )


@detector("rl.ranking_loss_at_chance")
def ranking_loss_at_chance(run: Run, *, minimum: int = 10) -> Observation:
    """Find a ranking loss that stays within 8 % of its value for equal scores.

    That value is ln 2 for the logistic loss and the margin, 1.0, for the hinge loss.
    """
    kind = kind_of(run)
    if kind != "reward" and (_score_pair(run) is None or kind == "preference"):
        return unobservable("this is not a reward model's log")
    found = curve(run, "loss", minimum=minimum)
    if isinstance(found, Observation):
        return found
    start, end = stats.level(found.values, "first-fifth"), stats.level(found.values, "last-half")
    text = f"ranking loss goes from {number(start)} to {number(end)} (last half)"
    for chance, words in ((LN2, "ln 2"), (1.0, "the margin of 1.0")):
        if abs(end - chance) < 0.08 * chance and abs(start - chance) < 0.15 * chance:
            return present(f"{text}, next to {words}", found.fact(-1), curves=("loss",))
    return absent(text, found.fact(-1))


@detector("rl.pairs_at_chance")
def pairs_at_chance(run: Run, *, minimum: int = 5) -> Observation:
    """Find a train loss next to ln 2 from first to last and an evaluation accuracy next to a half.

    The two together say that one of two sides is guessed. The accuracy must lie within 0.1.
    """
    if kind_of(run) not in ("reward", ""):
        return unobservable("this is no log of a model that ranks two sides")
    judged = points(run, "accuracy", "eval")
    if judged is None or not len(judged.finite):
        return unobservable("no evaluation accuracy was logged", "trainer_state.json with eval_*")
    found = curve(run, "loss", minimum=minimum)
    if isinstance(found, Observation):
        return found
    half = stats.level(judged.finite.values)
    start, end = stats.level(found.values, "first-third"), stats.level(found.values, "last-third")
    text = (
        f"loss goes from {number(start)} to {number(end)} (ln 2 is 0.6931) and evaluation accuracy "
        f"is {half:.2f}"
    )
    guessed = all(abs(x - LN2) < 0.08 * LN2 for x in (start, end)) and abs(half - 0.5) <= 0.1
    answer = present if guessed else absent
    return answer(text, judged.finite.fact(-1), found.fact(-1), curves=("loss",))


@detector("rl.groups_split_batch")
def groups_split_batch(run: Run) -> Observation:
    """Find a number of completions per prompt that does not divide the rows of a step."""
    group = setting_number(run, "num_generations")
    rows = setting_number(run, "per_device_train_batch_size")
    if group is None or rows is None or group[0] < 2:
        return unobservable("group or batch size is not known", "training configuration")
    accumulation = setting_number(run, "gradient_accumulation_steps")
    size = rows[0] * (accumulation[0] if accumulation else 1)
    text = f"{group[0]:g} completions per prompt, {size:g} rows per process and step"
    if size % group[0] == 0:
        return absent(text, group[1])
    world = run.fact("environment.world_size") or run.fact("environment.gpu_count")
    if world is None or not isinstance(world.value, int):
        return unobservable(f"{text}; the number of processes is not known", "stdout log")
    text += f", {world.value} processes"
    if size * world.value % group[0] == 0:
        return absent(text, group[1])
    return present(f"{text}: groups are split", group[1], rows[1])
