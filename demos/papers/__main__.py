"""The papers' own numbers: python -m demos.papers --data DIR.

Trains what the papers trained, with the steps by hand, judges it by their protocols,
and writes one table of theirs and ours, with the settings and every departure. A
training takes minutes to hours of one core. What is done is not done again: results are
kept in demos/papers_results, what is unfinished in runs/papers, and the next run goes
on there.
"""

import argparse
import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from demos.papers._data import mnist
from demos.papers._jobs import end_with_parent, is_done, load, result_path
from demos.papers._known import known
from demos.papers._table import RESULTS, ROWS, work_on, write
from scratchnet import backend
from scratchnet.__main__ import positive


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m demos.papers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--data", type=Path, help="the folder of MNIST's files")
    made.add_argument(
        "--only", action="append", choices=list(ROWS), metavar="NAME",
        help=f"a row of the table, one of {', '.join(ROWS)}; may be given again",
    )  # fmt: skip
    made.add_argument(
        "--seeds", type=positive, help="trainings of each (default: the row's)"
    )
    made.add_argument(
        "--hours", type=float, default=24.0, help="stop after (default: 24)"
    )
    made.add_argument(
        "--jobs",
        type=positive,
        default=os.cpu_count(),
        help="at once (default: the cores)",
    )
    made.add_argument(
        "--backend", choices=backend.BACKENDS, help="where to compute (default: numpy)"
    )
    made.add_argument(
        "--work", type=Path, help="for what is unfinished (default: runs/papers)"
    )
    made.add_argument(
        "--out", type=Path, help="for results (default: demos/papers_results)"
    )
    made.add_argument(
        "--quick", action="store_true",
        help="train on little (without --data on drawn digits), in temporary folders "
        "if no others are given, and check the measures against known values",
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
        args.work = args.work or Path(temporary if args.quick else "runs/papers")
        args.out = args.out or (Path(temporary) if args.quick else RESULTS)
        try:
            if args.data is not None:
                mnist(args.data, "test")
            if args.backend is not None:
                backend.use(args.backend)
                os.environ["SCRATCHNET_BACKEND"] = args.backend  # of jobs' processes
            wanted = to_do(args)
        except (ValueError, OSError, backend.BackendError) as error:
            print(f"demos.papers: {error}", file=sys.stderr)
            return 2
        all_known = True
        if args.quick:
            for one in known(args.data):
                print(one, flush=True)
                all_known = all_known and one.holds
        all_done = train(args, wanted)
    return 0 if all_known and all_done else 1


def to_do(args: argparse.Namespace) -> list[tuple[str, int]]:
    """Return what is not done yet, by row and seed: first all of one seed.

    Raises:
        ValueError: one is done by other settings, or a file there is no result.
        OSError: the folder for results cannot be made or read.

    """
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ROWS:
        load(args.out, name)  # what cannot be read is said now, and not after hours
    seeds = args.seeds or (1 if args.quick else None)
    names = args.only or [
        name for name, row in ROWS.items()
        if args.quick or not row.gpu or backend.name() != "numpy"
    ]  # fmt: skip
    return [
        (name, seed)
        for seed in range(seeds or max(ROWS[name].seeds for name in names))
        for name in dict.fromkeys(names)
        if seed < (seeds or ROWS[name].seeds)
        and not is_done(result_path(args.out, name, seed), ROWS[name], args.quick)
    ]


def train(args: argparse.Namespace, wanted: list[tuple[str, int]]) -> bool:
    """Do what is wanted, and print the table; return whether nothing failed."""
    deadline = time.time() + 3600 * args.hours
    # One thread for each process: more would only wait for each other.
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    pool = ProcessPoolExecutor(
        args.jobs, mp_context=get_context("spawn"), initializer=end_with_parent
    )
    all_done = True
    with pool, tqdm(total=len(wanted), unit="job", disable=None) as bar:
        running: dict[Future[str], str] = {}
        try:
            while wanted or running:
                # No more than can run: what a pool was given it does after Ctrl-C too.
                while wanted and len(running) < args.jobs:
                    name, seed = wanted.pop(0)
                    job = pool.submit(work_on, name, seed, args.data, args.work,
                                      args.out, deadline, args.quick)  # fmt: skip
                    running[job] = f"{name}-{seed}"
                done, _ = wait(running, timeout=60, return_when=FIRST_COMPLETED)
                for job in done:
                    name = running.pop(job)
                    failure = job.exception()
                    said = f"{name}: {type(failure).__name__}: {failure}"
                    tqdm.write(said if failure else job.result())
                    all_done = all_done and not failure
                    write(args.out)
                    bar.update()
                for name in running.values():
                    path = args.work / name / "progress"
                    if path.exists() and time.time() - path.stat().st_mtime < 90:
                        said = f"  {name}: {path.read_text().strip()}"
                        tqdm.write(said, file=sys.stderr)
        except KeyboardInterrupt:
            for process in active_children():
                process.terminate()
            tqdm.write("stopped; the same command goes on", file=sys.stderr)
            return False
    print(write(args.out))
    return all_done


if __name__ == "__main__":
    sys.exit(main())
