"""The evaluation: one pool over all stages, in the order of the rows, until every row has its end."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pytest_finetune.calls.budget import Budget, OverBudget
from pytest_finetune.calls.engine import Calling
from pytest_finetune.calls.failures import InARow
from pytest_finetune.calls.traffic import Retries, Stopped, Traffic
from pytest_finetune.core.pricing import CAP
from pytest_finetune.core.records import Answered, Row, RowState
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import EndpointError, FinetuneError, JudgeError, NotEvaluated, UsageError
from pytest_finetune.evaluate.answers import ROW_LIMIT, Answer, Asker, Failing, abandoned
from pytest_finetune.evaluate.pool import Pool
from pytest_finetune.evaluate.stages import Progress, Question, RowStore, StageRun
from pytest_finetune.metrics import Metric

Score = tuple[str, str, float | JudgeError]  # of an answer's key, for a row's id

_RENEWAL = 5.0  # seconds between two renewals of the leases, and two looks for overdue rows
_POLL = 0.2  # seconds between two looks at what other processes have finished
_REPORT = 0.25  # seconds between two reports of progress
_GRACE = 1.0  # seconds that requests under way are given after Ctrl-C


def evaluate(
    stages: Sequence[StageRun],
    rows: Sequence[DataRow],
    metric: Metric,
    store: RowStore,
    *,
    concurrency: int = 32,
    timeout: float = 60.0,
    repeats: int = 1,
    retries: Retries | None = None,
    budget: Budget | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, tuple[Row, ...]]:
    """Answer and score every row by every stage, asking only for what the store lacks.

    Every answer is stored before it is scored. Several processes may evaluate with one store at once: each row is
    asked for by one of them, and all get it.

    Args:
        stages: What is evaluated; their names differ.
        rows: In the order in which they are to be asked.
        metric: Scores the answers.
        store: What has been answered and scored before.
        concurrency: Requests under way at most, over all processes with this store.
        timeout: Seconds to wait for an answer to one request; a whole row may take ten times as long.
        repeats: How often each row is asked.
        retries: How patiently failed requests are repeated.
        budget: What requests cost, and what may be spent.
        progress: Called from this thread about four times a second, and at the end.

    Returns:
        For each stage its rows, in the given order, each with its repeats. A row that got no answer is there with
        the state ``error``, and without a score.

    Raises:
        UsageError: If the metric fails on a row or gives no score in [0, 1], or every row fails in the program.
        EndpointError: If an endpoint refuses or does not answer. What was answered is kept in each case.
        NotEvaluated: If the next request might pass the budget's cap.
    """
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise UsageError(f"two stages have the same name: {', '.join(names)}")
    if concurrency < 1 or repeats < 1 or timeout <= 0:
        raise UsageError(f"concurrency={concurrency}, repeats={repeats}, timeout={timeout}: each must be above 0")
    questions = [
        Question(stage, row, repeat) for row in rows for stage in stages for repeat in range(repeats)
    ]  # by rows, so that all stages get equally far, and pairs are complete early
    calling = Calling(Traffic(concurrency), retries or Retries(), timeout, budget or Budget(), of_rows=True)
    evaluation = _Evaluation(questions, metric, store, calling, progress)
    with evaluation.ending():
        evaluation.run()
    return {name: tuple(evaluation.row(q) for q in questions if q.stage.name == name) for name in names}


class _Evaluation:
    """The state of one call of `evaluate`; only the thread that made it touches it, and the store."""

    def __init__(
        self,
        questions: Sequence[Question],
        metric: Metric,
        store: RowStore,
        calling: Calling,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._metric = metric
        self._fingerprint = metric.fingerprint()
        self._store = store
        self._calling = calling
        self._traffic = calling.traffic
        self._report = progress or (lambda _: None)
        self._askers: dict[str, Asker] = {}
        self._pool = Pool(calling.traffic.most)
        self._keys = {id(question): question.key for question in questions}
        self._wanted: dict[str, list[Question]] = {}
        for question in questions:
            self._wanted.setdefault(self._keys[id(question)], []).append(question)
        self._rows = {key: {question.row.row_id for question in wanted} for key, wanted in self._wanted.items()}
        of_stage = Counter(wanted[0].stage.name for wanted in self._wanted.values())
        self._open: deque[str] = deque()
        self._answers: dict[str, Row] = {}
        self._scores: dict[tuple[str, str], float] = {}
        self._unjudged: dict[tuple[str, str], str] = {}
        self._unjudged_in_a_row = InARow(len(self._wanted))
        self._failing_in_a_row = {stage: InARow(rows) for stage, rows in of_stage.items()}
        self._failure: Exception | None = None
        self._progress = Progress(len(questions))
        self._start = time.monotonic()
        self._next_poll = self._next_renewal = self._last_report = 0.0

    def row(self, question: Question) -> Row:
        """A question's row, with its score."""
        key, row_id = self._keys[id(question)], question.row.row_id
        row = replace(self._answers[key], row_id=row_id, stage=question.stage.name, repeat=question.repeat)
        unjudged = self._unjudged.get((key, row_id))
        if unjudged is not None:
            return replace(row, state=RowState.ERROR, error=unjudged)
        return replace(row, score=self._scores.get((key, row_id)))

    def run(self) -> None:
        """Work until every row has its end.

        Raises:
            FinetuneError: The evaluation cannot go on; what was under way is stored.
        """
        self._adopt(self._store.read(self._rows, self._fingerprint))
        self._open.extend(key for key in self._wanted if key not in self._answers)
        while (self._open or len(self._pool)) and self._failure is None:
            moved = self._claim()
            self._collect(0.0 if moved and not len(self._pool) else _POLL)
            self._keep_watch()
            self._tell(every=_REPORT)
        if self._failure is not None:
            self._wind_up(self._calling.timeout)
            raise self._failure
        self._tell(every=0.0)

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Store what is there and let go of the rest, however the evaluation ends."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(FinetuneError):
                self._wind_up(_GRACE)
            raise
        finally:
            self._traffic.stop()
            self._pool.close()
            self._store.release()
            if not len(self._pool):
                for asker in self._askers.values():
                    asker.close()

    def _wind_up(self, seconds: float) -> None:
        """Begin no more requests, and store the answers to those under way that come in time."""
        self._traffic.stop()
        end = time.monotonic() + seconds
        while len(self._pool) and time.monotonic() < end:
            self._collect(min(_POLL, seconds))

    # --- what is to be done -----------------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Take rows to ask for, and those that others have finished; say whether there were any."""
        free = self._traffic.limit - len(self._pool)
        if not self._open or free <= 0 or time.monotonic() < self._next_poll:
            return False
        # Others hold at most `concurrency` rows, so that this window always has one that can be claimed.
        window = [self._open.popleft() for _ in range(min(len(self._open), self._traffic.most + free))]
        wanted = {key: self._rows[key] for key in window}
        mine, done = self._store.claim(wanted, self._fingerprint, limit=free, cap=self._traffic.most)
        gone = {*mine, *done}
        self._open.extendleft(key for key in reversed(window) if key not in gone)
        self._adopt(done)
        for key in mine:
            self._pool.submit(key, self._work(key, self._asker(self._wanted[key][0].stage), None))
        if not gone:
            self._next_poll = time.monotonic() + _POLL
        return bool(gone)

    def _adopt(self, stored: Mapping[str, tuple[Row, float]]) -> None:
        """Take over what was answered before, or by others, and score what has no score yet."""
        known = self._store.scores(list(stored), self._fingerprint)
        for key, (row, asked_at) in stored.items():
            self._answers[key] = row
            oldest = min(asked_at, self._progress.reused_since or asked_at)
            reused = self._progress.reused + len(self._wanted[key])
            self._progress = replace(self._progress, reused=reused, reused_since=oldest)
            names = {(key, question.row.row_id) for question in self._wanted[key]}
            self._scores.update((name, known[name]) for name in names & known.keys())
            if row.state is RowState.SCORED and not names <= known.keys():
                self._pool.submit(key, self._work(key, self._asker(self._wanted[key][0].stage), row))

    def _work(self, key: str, asker: Asker, row: Row | None) -> Iterator[Answer | Score]:
        """Run in a thread of the pool: answer a row, unless it is answered, then score it."""
        if row is None:
            answer = asker.ask(self._wanted[key][0])
            yield answer
            row = answer.row
        if row.state is RowState.SCORED and row.output is not None:
            for question in self._wanted[key]:
                try:
                    score: float | JudgeError = asker.score(question, row.output, self._metric)
                except JudgeError as error:
                    score = error
                yield key, question.row.row_id, score

    def _asker(self, stage: StageRun) -> Asker:
        """Made only where it is needed, since it imports DSPy."""
        if stage.name not in self._askers:
            self._askers[stage.name] = Asker(stage, self._calling)
        return self._askers[stage.name]

    # --- what comes back --------------------------------------------------------------------------------------

    def _collect(self, timeout: float) -> None:
        answers: dict[str, Answer] = {}
        scores: list[Score] = []
        for key, result in self._pool.results(timeout):
            if isinstance(result, Answer):
                answers[key] = result
            elif isinstance(result, OverBudget):
                self._failure = self._failure or _not_evaluated(result)
            elif isinstance(result, Exception):
                self._failure = self._failure or result
            elif not isinstance(result, Stopped):
                scores.append(result)
        if answers:
            self._keep(answers)
        if scores:
            self._keep_scores(scores)

    def _keep(self, answers: Mapping[str, Answer]) -> None:
        stages = {key: self._wanted[key][0].stage for key in answers}
        self._store.save(
            Answered(key, answer.row, answer.attempts, stages[key].task, stages[key].model)
            for key, answer in answers.items()
            if answer.hopeless is None  # it says nothing of its row: whoever wants the row is told the reason himself
        )
        self._answers.update((key, answer.row) for key, answer in answers.items())
        self._progress = replace(
            self._progress, asked=self._progress.asked + len(answers), cost=self._cost(answers.values())
        )
        for key, answer in answers.items():
            self._failure = self._failure or self._no_use_to_go_on(self._wanted[key][0].stage, answer)

    def _cost(self, answers: Iterable[Answer]) -> float | None:
        """What all answers so far have cost; unknown where one is."""
        costs = [answer.row.usage.cost for answer in answers if answer.row.usage is not None]
        if self._progress.cost is None or None in costs:
            return None
        return self._progress.cost + sum(cost for cost in costs if cost is not None)

    def _keep_scores(self, scores: Sequence[Score]) -> None:
        """Store scores; what a judge failed to score stays without one, and is judged anew by the next run."""
        given = {(key, row_id): score for key, row_id, score in scores if not isinstance(score, JudgeError)}
        self._store.save_scores(given, self._fingerprint)
        self._scores.update(given)
        for key, row_id, score in scores:
            too_many = self._unjudged_in_a_row.add(failed=isinstance(score, JudgeError))
            if isinstance(score, JudgeError):
                self._unjudged[key, row_id] = str(score)
                if too_many:
                    self._failure = self._failure or _no_judge(score, self._unjudged_in_a_row.count)

    def _no_use_to_go_on(self, stage: StageRun, answer: Answer) -> FinetuneError | None:
        failing = self._failing_in_a_row[stage.name]
        if failing.add(failed=answer.failing is not None) and answer.hopeless is None:
            return _given_up(stage, answer, failing.count)
        return answer.hopeless

    # --- meanwhile --------------------------------------------------------------------------------------------

    def _keep_watch(self) -> None:
        if time.monotonic() < self._next_renewal:
            return
        self._next_renewal = time.monotonic() + _RENEWAL
        self._store.renew()
        limit = (ROW_LIMIT + 1) * self._calling.timeout
        for key in self._pool.overdue(limit):
            question = self._wanted[key][0]
            if key in self._answers:
                row = question.row
                raise UsageError(
                    f"metric {self._metric.name}, row {row.row_id} ({row.where}): runs for over {limit} s"
                )
            self._keep({key: abandoned(question, limit)})

    def _tell(self, every: float) -> None:
        now = time.monotonic()
        if now < self._last_report + every:
            return
        self._last_report = now
        states = Counter(
            self._answers[key].state
            for key, wanted in self._wanted.items()
            for question in wanted
            if key in self._answers
            and (self._answers[key].state is not RowState.SCORED or (key, question.row.row_id) in self._scores)
        )
        errors, format_errors = states[RowState.ERROR] + len(self._unjudged), states[RowState.FORMAT_ERROR]
        counts = {"done": states.total() + len(self._unjudged), "errors": errors, "format_errors": format_errors}
        self._report(replace(self._progress, seconds=now - self._start, **counts))


def _not_evaluated(stop: OverBudget) -> NotEvaluated:
    return NotEvaluated(
        f"not evaluated: {stop}. What was answered is kept: run the same command again with a higher cap ({CAP})"
    )


def _no_judge(error: JudgeError, rows: int) -> EndpointError:
    return EndpointError(
        f"{rows} rows in a row got no score from the model that judges; the last one: {error}. What was answered is"
        " kept: run the same command again once that model answers"
    )


def _given_up(stage: StageRun, answer: Answer, rows: int) -> FinetuneError:
    last = f"the last one: {answer.row.error}"
    if answer.failing is Failing.PROGRAM:
        return UsageError(f"stage {stage.name}: {rows} rows in a row failed in the program itself; {last}")
    return EndpointError(
        f"stage {stage.name}: {rows} rows in a row got no answer from model {stage.model!r}; {last}."
        " What was answered is kept: run the same command again once the endpoint answers"
    )
