"""A diagnosis in words: what is wrong, by which figures, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pytest_finetune.core.diagnosis import ENOUGH, Finding, Fix, Kind

Figures = Mapping[str, float]

_FIXES = {
    Fix.STRONG_TEACHER: "let a strong model answer (teacher='MODEL', recipe='distill')",
    Fix.LENIENT_METRIC: "accept answers that are right in part (metric.for_bootstrapping(threshold=…))",
    Fix.GOLD_LABELS: "train on the gold labels, where the data have them (recipe='labels')",
    Fix.MORE_ROWS: "collect more, and more different, labelled rows",
    Fix.FEWER_EPOCHS: "fewer epochs (hyperparameters={'n_epochs': …})",
    Fix.BEST_CHECKPOINT: "take the checkpoint with the lowest loss on dev (hyperparameters={'checkpoint': 'best'})",
    Fix.LOWER_RATE: "a lower learning_rate_multiplier (hyperparameters)",
    Fix.MORE_EPOCHS: "more epochs (hyperparameters={'n_epochs': …})",
    Fix.HIGHER_RATE: "a higher learning_rate_multiplier (hyperparameters)",
    Fix.LARGER_MODEL: "a larger student",
    Fix.CHECK_LABELS: "read the training rows that it gets wrong: labels that contradict each other cannot be learnt",
    Fix.KEEP_PROMPTS: "keep the prompt-optimized program: it costs no training",
    Fix.MORE_SEEDS: "train with several seeds (seeds=(0, 1, 2)), to see how much is chance",
    Fix.BETTER_TOGETHER: "optimize prompts and weights in turn (recipe='better_together')",
    Fix.LONGER_ANSWERS: "see that max_tokens does not cut answers off",
    Fix.JSON_ADAPTER: "adapter='json', if the model was made for it",
    Fix.MIX: "mix in rows of that work (mix=Mix(dataset, program=…)), other ones than the suite's",
}


def diagnosis(findings: Sequence[Finding], *, fixes: int | None = None) -> Iterator[str]:
    """Two lines for each finding: what and why, then what to try.

    Args:
        findings: What was found.
        fixes: How many of the remedies are told; ``None``: all.
    """
    for finding in findings:
        about = f" on {finding.about}" if finding.about else ""
        yield f"{finding.kind.value}{about}: {_EVIDENCE[finding.kind](finding.evidence)}"
        yield f"  try: {'; then '.join(_FIXES[fix] for fix in finding.fixes[:fixes])}"


def _traces(figures: Figures) -> str:
    return f"{figures['kept']:.0f} of {figures['asked']:.0f} rows survived; {ENOUGH} should"


def _overfitting(figures: Figures) -> str:
    said = []
    if "train" in figures:
        said.append(f"{figures['train']:.3f} on rows it was trained on, {figures['held_out']:.3f} on others")
    if "best_loss" in figures:
        best, last = f"{figures['best_loss']:.3g} around step {figures['best_step']:.0f}", figures["last_loss"]
        said.append(f"validation loss {best}, {last:.3g} at the end")
    return "; ".join([*said, *_epochs(figures)])


def _underfitting(figures: Figures) -> str:
    said = [f"{figures['train']:.3f} on rows it was trained on, whose answers score {figures['taught']:.3f}"]
    if "falling" in figures:
        said.append(f"training loss still falling, {figures['falling']:.3g} to {figures['last_train']:.3g}")
    return "; ".join([*said, *_epochs(figures)])


def _epochs(figures: Figures) -> list[str]:
    return [f"n_epochs was {figures['epochs']:.0f}"] if "epochs" in figures else []


def _no_gain(figures: Figures) -> str:
    said = f"{figures['finetuned']:.3f}, the prompt-optimized program {figures['prompts']:.3f}"
    noise = f"; {figures['gain']:+.3f} on average, seed noise {figures['noise']:.3f}" if "noise" in figures else ""
    return said + noise


def _format(figures: Figures) -> str:
    said = f"{figures['unreadable']:.1%} of {figures['n']:.0f} answers could not be parsed"
    return said + (f", {figures['prompts']:.1%} of the prompt-optimized program's" if "prompts" in figures else "")


def _forgetting(figures: Figures) -> str:
    return f"{figures['before']:.3f} before, {figures['now']:.3f} now, n={figures['n']:.0f}"


_EVIDENCE: Mapping[Kind, Callable[[Figures], str]] = {
    Kind.TOO_FEW_TRACES: _traces,
    Kind.OVERFITTING: _overfitting,
    Kind.UNDERFITTING: _underfitting,
    Kind.NO_GAIN: _no_gain,
    Kind.UNSTABLE_FORMAT: _format,
    Kind.FORGETTING: _forgetting,
}
