"""Reproduce the papers' numbers: python -m demos.papers --data DIR.

The command trains the papers' models with the steps by hand, evaluates them by the
papers' protocols, and writes one table of their numbers and ours, with the settings and
every difference. First it checks its measures on known values, and stops if one is
wrong. A training takes minutes to hours of one core. Results are kept in
demos/papers_results and unfinished trainings in runs/papers; the next run resumes them.
"""

import argparse
import math
import os
import sys
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from demos._demo import folder
from demos.papers._data import mnist
from demos.papers._jobs import (
    check_unfinished,
    end_with_parent,
    folder_of,
    is_done,
    result_path,
    settings_of,
)
from demos.papers._known import known
from demos.papers._table import RESULTS, ROWS, work_on, write
from scratchnet import backend
from scratchnet.cli.console import from_console
from scratchnet.cli.options import positive


def hours(text: str) -> float:
    """Parse a positive number of hours."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{number:g} is not positive")
    return number


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m demos.papers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--data", type=folder, help="the folder of MNIST's files")
    made.add_argument(
        "--only", action="append", choices=list(ROWS), metavar="NAME",
        help=f"a row of the table, one of {', '.join(ROWS)}; repeatable",
    )  # fmt: skip
    made.add_argument(
        "--seeds", type=positive, help="trainings of each row (default: the row's)"
    )
    made.add_argument(
        "--hours", type=hours, default=24.0, help="stop after this time (default: 24)"
    )
    made.add_argument(
        "--jobs",
        type=positive,
        default=os.cpu_count(),
        help="trainings at the same time (default: the number of cores)",
    )
    made.add_argument(
        "--backend", choices=backend.BACKENDS, help="where to compute (default: numpy)"
    )
    made.add_argument(
        "--work", type=folder, help="unfinished trainings (default: runs/papers)"
    )
    made.add_argument(
        "--out", type=folder, help="results (default: demos/papers_results)"
    )
    made.add_argument(
        "--quick", action="store_true",
        help="train on few images (without --data on drawn digits), by default in "
        "temporary folders",
    )  # fmt: skip
    return made


def main() -> int:
    """Run the command."""
    args = parser().parse_args()
    if args.data is None and not args.quick:
        missing = "--data is missing: the folder of MNIST's files; or give --quick"
        print(f"demos.papers: {missing}", file=sys.stderr)
        return 2
    with TemporaryDirectory() as temporary:
        resumes = "the same command resumes"
        if args.quick and not (args.work and args.out):
            resumes = "with --work and --out the same command would resume"
        args.work = args.work or Path(temporary if args.quick else "runs/papers")
        args.out = args.out or (Path(temporary) if args.quick else RESULTS)
        try:
            if args.data is not None:
                mnist(args.data, "train")
                mnist(args.data, "test")
            if args.backend is not None:
                backend.use(args.backend)
                os.environ["SCRATCHNET_BACKEND"] = args.backend  # for the jobs
            wanted = to_do(args)
            if wanted and not measures_hold(args.data):
                return 1
            failed = train(args, wanted)
            if wanted:
                print(f"no time left for {len(wanted)} more; {resumes}")
            print(write(args.out))
            return 1 if failed else 0
        except KeyboardInterrupt:
            print(f"demos.papers: stopped; {resumes}", file=sys.stderr)
            return 1
        except (ValueError, OSError, backend.BackendError) as error:
            print(f"demos.papers: {error}", file=sys.stderr)
            return 2


def measures_hold(data: Path | None) -> bool:
    """Print each measure of a known value, next to that value."""
    found = []
    for one in known(data):
        print(one, flush=True)
        found.append(one.holds)
    if not all(found):
        said = "a measure differs from its known value; are these MNIST's files?"
        print(f"demos.papers: {said}", file=sys.stderr)
    return all(found)


def to_do(args: argparse.Namespace) -> list[tuple[str, int]]:
    """Return the (row, seed) pairs left to do, seed by seed.

    Raises:
        ValueError: a training was done or started with other settings, or a file is
            not a result.
        OSError: the folder for results cannot be created, read or written.

    """
    args.out.mkdir(parents=True, exist_ok=True)
    write(args.out)  # reports an unreadable folder now, not after hours
    seeds = args.seeds or (1 if args.quick else None)
    names = args.only or [
        name for name, row in ROWS.items()
        if args.quick or not row.gpu or backend.name() != "numpy"
    ]  # fmt: skip
    wanted = [
        (name, seed)
        for seed in range(seeds or max(ROWS[name].seeds for name in names))
        for name in dict.fromkeys(names)
        if seed < (seeds or ROWS[name].seeds)
    ]
    left = []
    for name, seed in wanted:
        settings = settings_of(ROWS[name], args.data, args.quick)
        if not is_done(result_path(args.out, name, seed), settings):
            check_unfinished(folder_of(args.work, name, seed), settings)
            left.append((name, seed))
    return left


def worker() -> ProcessPoolExecutor:
    """Return a process that does one job after another, and ends with this process."""
    context = get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent)


def train(args: argparse.Namespace, wanted: list[tuple[str, int]]) -> bool:
    """Do the wanted jobs until the deadline; return whether any failed.

    Jobs that did not start stay in `wanted`. A job whose process is killed has failed,
    and is not started again: it might be killed again.
    """
    deadline = time.time() + 3600 * args.hours
    # One thread for each process: more threads would wait for each other.
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # Not one pool of several processes: it ends all of them if one is killed.
    idle = [worker() for _ in range(args.jobs)]
    running: dict[Future[str], tuple[str, ProcessPoolExecutor]] = {}
    failed = False
    with tqdm(total=len(wanted), unit="job", disable=None) as bar:
        try:
            while running or (wanted and time.time() < deadline):
                while wanted and idle and time.time() < deadline:
                    name, seed = wanted.pop(0)
                    one = idle.pop()
                    job = one.submit(work_on, name, seed, args.data, args.work,
                                     args.out, deadline, args.quick)  # fmt: skip
                    running[job] = f"{name}-{seed}", one
                done, _ = wait(running, timeout=60, return_when=FIRST_COMPLETED)
                for job in done:
                    name, one = running.pop(job)
                    error = said(name, job)
                    failed = failed or error is not None
                    killed = isinstance(error, BrokenProcessPool)
                    idle.append(worker() if killed else one)
                if done:
                    bar.update(len(done))
                    write(args.out)
                for name, _ in running.values():
                    path = args.work / name / "progress"
                    if path.exists() and time.time() - path.stat().st_mtime < 90:
                        progress = path.read_text().strip()
                        tqdm.write(f"  {name}: {progress}", file=sys.stderr)
        except BaseException:
            for process in active_children():  # their checkpoints are kept
                process.terminate()
            raise
        finally:
            for one in [*idle, *(one for _, one in running.values())]:
                one.shutdown()
    return failed


def said(name: str, job: Future[str]) -> BaseException | None:
    """Print the result of a job, and return its error."""
    error = job.exception()
    if error is None:
        tqdm.write(job.result())
    else:
        tqdm.write("".join(traceback.format_exception(error)), file=sys.stderr)
        tqdm.write(f"{name}: {type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    sys.exit(from_console(main))
