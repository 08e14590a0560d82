"""How a study's tasks are carried out: by any executor, each as soon as what it needs is done.

On one machine the executor is a pool of processes; across hosts it is that of a Dask scheduler, whose workers must see
the study's folder. Dask rather than a Slurm array because tasks depend on each other and differ in length, because
it runs on anything from a laptop to Slurm (dask-jobqueue), and because it has the executor of the standard library, so
that this module knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driftway.errors import ConfigError, DriftwayError
from driftway.processes import process_pool
from driftway.progress import progress
from driftway.studies.plan import Task
from driftway.studies.tasks import left, perform

SHORTEST = 0.1  # seconds that a task counts for at least in the bar


@contextmanager
def executor(workers: int, scheduler: str | None = None) -> Iterator[Executor]:
    """`workers` processes of this machine, or the workers of the Dask scheduler at an address."""
    if scheduler is None:
        pool = process_pool(workers)
        try:
            yield pool
        except BrokenProcessPool as error:
            raise DriftwayError("a worker was ended, perhaps for lack of memory: run the study again") from error
        finally:
            pool.shutdown(cancel_futures=True)
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("--scheduler needs Dask: pip install 'driftway[cluster]'") from error
    try:
        client = Client(scheduler, timeout=10)
    except OSError as error:
        raise ConfigError(f"--scheduler: none answers at {scheduler} ({error}); see `dask scheduler`") from error
    with client:
        yield client.get_executor()


def urgency(tasks: Mapping[str, Task], seconds: Mapping[str, float]) -> dict[str, float]:
    """For each task the time from its start to the end of all that waits for it, in seconds: longest first."""
    after: dict[str, float] = {}
    for name in reversed(list(tasks)):
        waiting = [after[other] for other, task in tasks.items() if name in task.needs]
        after[name] = seconds.get(name, 0.0) + max(waiting, default=0.0)
    return after


def makespan(tasks: Mapping[str, Task], seconds: Mapping[str, float], workers: int) -> float:
    """How long `workers` take for all tasks, if each takes its `seconds` and the most urgent goes first."""
    urgent, ends = urgency(tasks, seconds), dict[str, float]()
    running: list[tuple[float, str]] = []
    now, waiting = 0.0, list(tasks)
    while waiting or running:
        ready = [name for name in waiting if all(need in ends or need not in tasks for need in tasks[name].needs)]
        for name in sorted(ready, key=urgent.__getitem__, reverse=True)[: workers - len(running)]:
            waiting.remove(name)
            running.append((now + seconds.get(name, 0.0), name))
        running.sort()
        now, name = running.pop(0)
        ends[name] = now
    return now


def carry_out(
    folder: Path, tasks: Mapping[str, Task], seconds: Mapping[str, float], pool: Executor, workers: int
) -> None:
    """Do what is not done yet. Raises the error of the first task that fails, once those under way have ended."""
    waiting = left(folder, tasks)
    urgent, running = urgency(tasks, seconds), dict[Future[dict[str, Any]], str]()
    before = [name for name in tasks if name not in waiting]

    def weight(name: str) -> int:
        return round(max(seconds.get(name, 0.0), SHORTEST) / SHORTEST)

    with progress("study", sum(map(weight, tasks)), sum(map(weight, before))) as bar:
        finished, failure = set(before), None
        while waiting or running:
            ready = [n for n, task in waiting.items() if finished.issuperset(task.needs)] if failure is None else []
            for name in sorted(ready, key=urgent.__getitem__, reverse=True)[: max(workers - len(running), 0)]:
                running[pool.submit(perform, folder, name)] = name
                del waiting[name]
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                failure = failure or _failure(future, name)
                finished.add(name)
                bar.advance(weight(name), f"{len(finished)} of {len(tasks)} tasks, last {name}")
    if failure is not None:
        raise failure


def _failure(future: Future[dict[str, Any]], name: str) -> BaseException | None:
    """Why a task failed, as an error to raise."""
    try:
        error = future.exception()
    except CancelledError:
        return DriftwayError(f"task {name} was cancelled; run the study again to go on")
    if error is None:
        return None
    if isinstance(error, DriftwayError):
        error.args = (f"task {name}: {error}",)
        return error
    if isinstance(error, BrokenProcessPool):
        return DriftwayError(
            f"a worker was ended while task {name} was under way, perhaps for lack of memory: run the study again, "
            "with fewer --workers if there is too little"
        )
    error.add_note(f"in task {name}")
    return error
