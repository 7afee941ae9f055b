"""The course of a chaos run: a phase with faults, a quiet phase, and the check of every task."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gaetk_longtask import LongTask
from tests.chaos.battlefield import Battlefield
from tests.chaos.faulty_grpc import Fault
from tests.chaos.visitors import Answer, Visitor, ask, is_right, kinds

#: How far the application's clock is set ahead to expire leases. It is longer than any lease.
AHEAD_SECONDS = 1000.0
_SWEEP_EVERY_SECONDS = 5.0
#: How slow Datastore is in some of its outages.
SLOW_SECONDS = 2.0
_SLOW = "outages in which Datastore also takes 2 s for each call"
_OVERLAPPING = "deliveries while the previous one was still running"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The duration of a run and the frequency of its faults. Real intervals are between 50 % and 150 % of these."""

    tasks: int = 200
    seed: int = 1
    fire_seconds: float = 90.0  #: tasks are started during the first two thirds
    quiet_seconds: float = 1080.0  #: a task that has not ended by then is stuck; the longest lease takes 960 s
    kill_every_seconds: float = 2.5
    memcached_every_seconds: float = 15.0
    memcached_down_seconds: float = 4.0
    datastore_every_seconds: float = 8.0
    datastore_down_seconds: float = 4.0
    duplicate_rate: float = 0.3
    loss_rate: float = 0.05
    early_every_seconds: float = 2.0
    #: If no task has ended for this time in the quiet phase, set the clock ahead instead of waiting for leases.
    hurry_after_seconds: float | None = None


@dataclass(kw_only=True, slots=True)
class Outcome:
    """The figures of a run, and everything that went wrong."""

    seed: int
    counts: dict[str, int] = field(default_factory=dict)
    #: All of these lists have to be empty.
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    committed_twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    laws: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    steps_back: list[str] = field(default_factory=list)
    seconds: float = 0.0
    quiet_seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not self.complaints()

    def table(self) -> str:
        """Return the figures as a Markdown table."""
        rows = [(what, f"{number:,}") for what, number in self.counts.items()]
        rows += [
            ("**lost**", f"**{len(self.lost)}**"),
            ("**stuck**", f"**{len(self.stuck)}**"),
            ("**results committed twice**", f"**{len(self.committed_twice)}**"),
            ("**wrong results and responses**", f"**{len(self.wrong)}**"),
            ("**forbidden state changes**", f"**{len(self.laws)}**"),
            ("**ends that `task_ended` was not told**", f"**{len(self.untold)}**"),
            ("**steps back of the bar of a task in parts**", f"**{len(self.steps_back)}**"),
        ]
        lines = [f"| seed {self.seed} | number |", "|---|---:|", *(f"| {what} | {number} |" for what, number in rows)]
        return "\n".join(lines)

    def complaints(self) -> list[str]:
        """Return everything that went wrong as text."""
        named = (("lost", self.lost), ("stuck", self.stuck), ("twice", self.committed_twice), ("wrong", self.wrong))
        named += (("law", self.laws), ("untold", self.untold), ("bar", self.steps_back))
        return [f"{name}: {one}" for name, ones in named for one in ones]


class Campaign:
    """One run on an unused battlefield."""

    def __init__(self, field_: Battlefield, plan: Plan, say: Callable[[str], None]) -> None:
        self._field = field_
        self._plan = plan
        self._say = say
        self._fire_over = threading.Event()
        self._all_over = threading.Event()
        self._counts: Counter[str] = Counter()
        rng = random.Random(plan.seed)
        self._rngs = {name: random.Random(rng.random()) for name in ("visitors", "kill", "memcached", "grpc", "early")}
        rng = self._rngs["visitors"]
        self._visitors = [
            Visitor(field_.urls, kind, number, rng, self._all_over, memcached=field_.settled_memcached)
            for number, kind in enumerate(kinds(plan.tasks, rng), start=1)
        ]
        self._starts = [rng.uniform(0, plan.fire_seconds * 2 / 3) for _ in self._visitors]

    def run(self) -> Outcome:
        """Run the phase with faults and the quiet phase, and return the outcome."""
        began = time.monotonic()
        weapons = (self._kill, self._stop_memcached, self._break_calls, self._run_early)
        fighters = [self._start(weapon) for weapon in weapons]
        sweeper = self._start(self._sweep)
        self._field.deliveries.duplicate_rate = self._plan.duplicate_rate
        self._field.deliveries.loss_rate = self._plan.loss_rate
        with ThreadPoolExecutor(max_workers=len(self._visitors)) as pool:
            for visitor, start in zip(self._visitors, self._starts, strict=True):
                pool.submit(visitor.run, start)
            self._fire_over.wait(self._plan.fire_seconds)
            self._fire_over.set()
            for fighter in fighters:
                fighter.join()
            self._field.deliveries.duplicate_rate = self._field.deliveries.loss_rate = 0.0
            quiet = time.monotonic()
            self._say(f"no more faults after {quiet - began:.0f} s; {self._count_open()} tasks have not ended yet")
            self._wait_until_over(quiet)
            self._all_over.set()
        sweeper.join()
        outcome = self._judge()
        outcome.quiet_seconds = time.monotonic() - quiet
        outcome.seconds = time.monotonic() - began
        return outcome

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name=work.__name__, daemon=True)
        thread.start()
        return thread

    # The faults.

    def _kill(self) -> None:
        rng = self._rngs["kill"]
        while not self._fire_over.wait(_about(rng, self._plan.kill_every_seconds)):
            workers = self._field.workers()
            if workers:
                self._field.kill(rng.choice(workers))
                self._counts["workers killed"] += 1

    def _stop_memcached(self) -> None:
        rng, plan = self._rngs["memcached"], self._plan
        while not self._fire_over.wait(_about(rng, plan.memcached_every_seconds)):
            self._field.stop_memcached()
            self._counts["memcached stopped and started"] += 1
            self._fire_over.wait(_about(rng, plan.memcached_down_seconds))
            self._field.start_memcached()

    def _break_calls(self) -> None:
        rng, plan = self._rngs["grpc"], self._plan
        while not self._fire_over.wait(_about(rng, plan.datastore_every_seconds)):
            self._field.datastore.rate = rng.choice((0.2, 0.5, 1.0))
            self._field.datastore.latency_seconds = rng.choice((0.0, 0.0, SLOW_SECONDS))
            self._counts[_SLOW] += self._field.datastore.latency_seconds > 0
            self._field.tasks.rate = rng.choice((0.0, 0.3))
            self._counts["outages of Datastore"] += 1
            self._fire_over.wait(_about(rng, plan.datastore_down_seconds))
            self._field.datastore.rate = self._field.tasks.rate = self._field.datastore.latency_seconds = 0.0

    def _run_early(self) -> None:
        rng = self._rngs["early"]
        while not self._fire_over.wait(_about(rng, self._plan.early_every_seconds)):
            self._counts[_OVERLAPPING] += self._field.run_early()

    def _sweep(self) -> None:
        while not self._all_over.wait(_SWEEP_EVERY_SECONDS):
            ask("GET", f"{self._field.url}/_longtask/sweep", headers={"X-Appengine-Cron": "true"})

    # Waiting for the end.

    def _count_open(self) -> int:
        open_visitors = sum(not visitor.ended for visitor in self._visitors)
        return open_visitors + len(self._orphans()) + len(self._field.history.untold())

    def _orphans(self) -> list[str]:
        """Return the stored tasks that have not ended and that no visitor knows."""
        known = {visitor.task_id for visitor in self._visitors}
        history = self._field.history
        ended = ("done", "finished", "failed", "cancelled")
        return [
            task_id
            for task_id in history.task_ids()
            if task_id not in known and history.of(task_id)[-1].status not in ended
        ]

    def _wait_until_over(self, quiet: float) -> None:
        open_before, since = self._count_open(), quiet
        hurry = self._plan.hurry_after_seconds
        while open_now := self._count_open():
            now = time.monotonic()
            if open_now != open_before:
                open_before, since = open_now, now
            if hurry is not None and now - since > hurry:
                self._say(f"{open_now} tasks have not ended yet; setting the clock ahead")
                self._field.set_clock_ahead(AHEAD_SECONDS)
                hurry = None
            if now - quiet > self._plan.quiet_seconds:
                return
            time.sleep(0.2)

    # Checking the outcome.

    def _judge(self) -> Outcome:
        field_, history = self._field, self._field.history
        outcome = Outcome(seed=self._plan.seed)
        stored = self._stored()
        by_id = {visitor.task_id: visitor for visitor in self._visitors if visitor.task_id}
        for visitor in self._visitors:
            outcome.wrong += visitor.complaints
            if visitor.task_id is None:
                outcome.lost.append(f"{visitor}: could not be started")
            elif visitor.task_id not in stored:
                outcome.lost.append(str(visitor))
        for task_id, task in stored.items():
            kind, number = task.path.strip("/").split("/")
            who = f"{kind} {number} {task_id[:8]} {task.status}"
            if not task.status.ended or (task_id in by_id and not by_id[task_id].ended):
                outcome.stuck.append(f"{who}, history {[(s.status, s.fence) for s in history.of(task_id)]}")
            elif task.status.has_result and not self._shows_right(task):
                outcome.wrong.append(f"{who}: wrong result")
            elif (kind == "hopeless") != (task.status.value == "failed") and task_id in by_id:
                outcome.wrong.append(f"{who}: wrong final status")
        outcome.committed_twice = history.committed_twice()
        outcome.steps_back = [f"{visitor} {back}" for visitor in self._visitors for back in visitor.bar.steps_back]
        outcome.laws = history.broken_laws()
        told, told_ends = field_.told(), history.told_ends()
        outcome.untold = [*history.untold(), *(task_id for task_id, fence in told_ends if not told[task_id, fence])]
        steps, faults = history.steps(), field_.datastore.faults
        outcome.counts = {
            "tasks requested": len(self._visitors),
            "tasks stored (some twice, because the reply to a start was lost and the visitor asked again)": len(stored),
            "deliveries": len(field_.deliveries.record),
            **{
                name: self._counts[name]
                for name in ("workers killed", "memcached stopped and started", "outages of Datastore", _SLOW)
            },
            "Datastore calls that failed and were not carried out": faults[Fault.REQUEST],
            "Datastore calls whose reply was lost": faults[Fault.REPLY],
            "commits carried out after their failure was reported": faults[Fault.LATE],
            "Cloud Tasks calls that failed, carried out or not": field_.tasks.faults.total(),
            "deliveries duplicated": field_.deliveries.duplicates,
            _OVERLAPPING: self._counts[_OVERLAPPING],
            "replies to deliveries lost": field_.deliveries.lost_answers,
            "attempts": steps["started"],
            "attempts that took over from a crashed one": steps["taken over"],
            "attempts that raised": steps["error"],
            "tasks cancelled by their visitors": sum(visitor.cancels for visitor in self._visitors),
            "tasks retried by their visitors": sum(visitor.retries for visitor in self._visitors),
            "polls": sum(visitor.polls for visitor in self._visitors),
            "looks at bars of tasks in parts": sum(visitor.bar.looks for visitor in self._visitors),
            "parts stored": len(history.parts()),
            "parts begun again after a crash or an error": sum(
                states[-1].fence > 1 for states in history.parts().values()
            ),
            "results of parts": len(history.part_ends("done")),
            "parts that failed for good, and with them the run of their task": history.part_ends("failed").total(),
            "tasks in parts retried by their visitors": sum(
                visitor.retries for visitor in self._visitors if visitor.kind == "parts"
            ),
            "tasks that failed for good: those that always fail, and those that no visitor watches": sum(
                task.status.value == "failed" for task in stored.values()
            ),
            "ends that `task_ended` was told": len(told),
            "ends that `task_ended` was told more than once": sum(number > 1 for number in told.values()),
            "results committed": sum(
                any(state.status == "done" for state in history.of(task_id)) for task_id in history.task_ids()
            ),
        }
        return outcome

    def _stored(self) -> dict[str, LongTask]:
        """Return all tasks in Datastore."""
        with self._field.ndb_client().context():
            return {task.id: task for task in LongTask.query()}

    def _shows_right(self, task: LongTask) -> bool:
        kind, number = task.path.strip("/").split("/")
        url = f"{self._field.url}{task.path}?_longtaskjob=showresult&_longtaskid={task.id}"
        answer: Answer | None = ask("GET", url)
        return answer is not None and answer.status == 200 and is_right(kind, int(number), answer.body)


def _about(rng: random.Random, seconds: float) -> float:
    return rng.uniform(0.5, 1.5) * seconds
