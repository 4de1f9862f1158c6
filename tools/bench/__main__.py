"""``python -m tools.bench``: everything, printed as the tables of ``docs/benchmarks.md``.

Invariant: cleans up after itself; says what it left out and why.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.bench import distance, fleet, inspection, large, ready, scale, signatures, trees
from tools.bench.compare import Comparison, growth
from tools.bench.measure import files_below, machine, milliseconds, table

VERBS = ["verb", "casinductor", "fal.toolkit", "times as fast", "casinductor", "fal.toolkit"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", help="where to work (default: the temporary directory)")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--no-scale", action="store_true", help="leave out the large caches")
    parser.add_argument("--restore-2gb", action="store_true", help="a restore of 2 GB alone")
    parser.add_argument("--looks", action="store_true", help="inspection alone")
    parser.add_argument("--ready", action="store_true", help="whole starts alone")
    parser.add_argument(
        "--python", action="append", default=[], help="whole starts under this one; again for more"
    )
    parser.add_argument("--model", action="append", default=[], choices=ready.ALL_MODELS)
    parser.add_argument("--way", action="append", default=[], choices=list(ready.WAYS))
    parser.add_argument(
        "--beside", action="append", default=[], help="what whole starts import beside torch"
    )
    parser.add_argument("--distance", action="store_true", help="latency alone")
    parser.add_argument("--signatures", action="store_true", help="what verifying costs alone")
    parser.add_argument("--fleet", action="store_true", help="a thousand workers alone")
    parser.add_argument("--large", action="store_true", help="a store of 10,000 caches alone")
    parser.add_argument("--caches", type=int, default=10_000, help="how many in that store")
    parser.add_argument("--no-torch", action="store_true", help="leave out the CPU tree")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="casinductor-bench-") as name:
        folder = Path(name)
        if options.ready:
            whole_starts(folder, options)
            return
        if options.signatures:
            found = signatures.rows(folder / "signatures", options.runs)
            table("Signatures", signatures.COLUMNS, found)
            return
        corpus = trees.corpus(folder)
        if options.restore_2gb:
            source = corpus / trees.BERT
            found = scale.large_restore(source, folder / "2gb", 2_000_000_000, options.runs)
            table("A cache of 2 GB", scale.LARGE_COLUMNS, found)
            return
        if options.large:
            what, rows = large.rows(folder / "large", options.caches)
            table(f"A large store ({what})", large.COLUMNS, rows)
            return
        if options.distance or options.fleet:
            source = corpus / trees.BERT
            far(source, folder, options)
            return
        if options.looks:
            looks(list(corpus.iterdir()), folder, options)
            return
        chosen = [corpus / name for name in (trees.BERT, trees.UNET) if (corpus / name).is_dir()]
        if corpus / trees.UNET not in chosen:
            print("\nWithout the UNet: CASINDUCTOR_CORPUS is not set, see tests/data/README.md.")
        if not options.no_torch:
            chosen.append(trees.cpu_tree(folder))
        for tree in chosen:
            rows = Comparison(tree, folder / f"compare-{tree.name}", options.runs).rows()
            table(tree.name, VERBS, rows)
        if corpus:
            columns = ["sync of", "adds", "store", "zips, one a worker"]
            table("Growth", columns, growth([corpus / t for t in trees.GROWTH], folder / "growth"))
            versions = growth([corpus / t for t in trees.VERSIONS], folder / "versions", keys=True)
            table("Two versions of a model", columns, versions)
        starts()
        looks(list(corpus.iterdir()), folder, options)
        if not options.no_scale:
            source = corpus / trees.BERT
            rows = scale.rows(source, folder / "scale", [500, 5_000, 50_000], 2_000_000_000)
            columns = ["cache", "files", "bytes", "sync", "peak", "needed", "peak", "all", "peak"]
            table("Scale", columns, rows)


def whole_starts(folder: Path, options: argparse.Namespace) -> None:
    """What a worker waits for until its first answer, for each interpreter and model."""
    for number, python in enumerate(options.python or [sys.executable]):
        asked = "import torch; print(torch.__version__)"
        version = subprocess.run(
            [python, "-c", asked], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in options.model or ready.MODELS:
            folder_of = folder / f"{number}-{name}"
            folder_of.mkdir()
            model = ready.Model(name, folder_of, python, tuple(options.beside))
            rows = ready.rows(model, options.runs, options.way)
            table(f"torch {version}, {name}, {options.runs} rounds", ready.COLUMNS, rows)


def far(source: Path, folder: Path, options: argparse.Namespace) -> None:
    """Stores that are a network away: latency, and a fleet that starts at once."""
    if options.distance:
        tree = trees.together(source.parent, folder / "together")
        print(f"\nAll trees in one directory: {files_below(tree):,} files", file=sys.stderr)
        for title, rows in distance.rows(tree, folder / "distance", min(options.runs, 3)).items():
            table(title, distance.COLUMNS, rows)
    if options.fleet:
        rows = [fleet.row(source, folder / "fleet")]
        table("A thousand workers", fleet.COLUMNS, rows)


def looks(found: list[Path], folder: Path, options: argparse.Namespace) -> None:
    """Inspection: entries, commands, and listening to torch."""
    columns = ["entries of", "entries", "bytes", "read", "described"]
    small = [] if options.no_torch else [trees.cpu_tree(folder)]
    table("Reading entries", columns, inspection.parsing(sorted(found) + small, options.runs))
    rows = inspection.commands(sorted(found), folder / "inspected", options.runs)
    table("Commands on 5,000 artifacts", ["command", "first", "again"], rows)
    if not options.no_torch:
        rows = inspection.listening(folder / "listening", options.runs)
        table("Warm start", ["", "not listening", "listening", "times as long"], rows)


def starts() -> None:
    """Importing the package and asking the command line for help, in fresh processes."""
    rows = []
    for name, command in (
        ("python -c pass", ["-c", "pass"]),
        ("import casinductor", ["-c", "import casinductor"]),
        ("casinductor --help", ["-m", "casinductor", "--help"]),
    ):
        times = []
        for _ in range(15):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        rows.append([name, milliseconds(times), f"{min(times) * 1000:.1f} ms"])
    table("Starting", ["process", "median", "least"], rows)


if __name__ == "__main__":
    main()
