"""All proofs and measurements that need a GPU, in one run: `python bench/gpu.py [tests sanitizer kernels learners]`.

    tests       pytest -m gpu
    sanitizer   compute-sanitizer over every CUDA kernel, see gpu_kernels_once.py
    kernels     races against PyTorch: eager, and where it has them vmap and CUDA graphs; see gpu_rows.py
    learners    the same of meta-gradients and training steps

Each section's outcome is written to the JSON file as it comes, and the exit status is 0 where all of them passed. With
`--minutes` each has a share of that time; the rows come in the order of what they tell. `--dry-run` goes through all of
it on the processor, with the CUDA kernels compiled by g++ and tiny rows. Nothing here uses the GPU itself: it starts
processes that do, so that a crash or a kernel that never ends costs one row.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
PATHS = [str(ROOT), str(ROOT / "kernels")]
sys.path += PATHS  # a checkout is enough: nothing needs to be installed

import race  # noqa: E402
import table  # noqa: E402
import timing  # noqa: E402
from gpu_rows import CASES  # noqa: E402

from minimeta import doctor  # noqa: E402

#: How much of the time each section may take, together with what those before it left.
SHARES = {"tests": 0.25, "sanitizer": 0.2, "kernels": 0.25, "learners": 0.3}
CHECKS = ("memcheck", "racecheck", "synccheck")
#: A row or a check that takes longer hangs.
ROW_SECONDS, CHECK_SECONDS = 150, 600
PASSED, FAILED, NOT_FOUND = "passed", "failed", "not found"


@dataclass
class Run:
    """What the sections know: the options, the results so far, and when the section at hand has to end."""

    options: argparse.Namespace
    results: dict[str, Any]
    deadline: float = float("inf")
    file: Path | None = None
    rows: dict[str, list[str]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return max(self.deadline - time.monotonic(), 0)

    def save(self) -> None:
        """Beside the file first, then in its place: what is there is whole at any time."""
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            beside = self.file.with_suffix(".part")
            beside.write_text(json.dumps(self.results, indent=2) + "\n")
            beside.replace(self.file)

    def python(self, script: str, *arguments: Any) -> list[str]:
        dry = ["--dry-run"] if self.options.dry_run else []
        return [sys.executable, str(BENCH / script), *dry, *map(str, arguments)]


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    rows = _rows(options.only)
    sections = _sections(options, rows)
    start, total = time.monotonic(), sum(SHARES[name] for name in sections)
    run = Run(options, _header(options), rows=rows)
    run.results |= {**_device(run), "sections": {}}
    run.file = options.json or _default(run)
    share = 0.0
    for name in sections:
        share += SHARES[name] / total
        if options.minutes is not None:
            run.deadline = start + 60 * options.minutes * share
        _go_through(run, name)
    return int(any(found["outcome"] != PASSED for found in run.results["sections"].values()))


def _go_through(run: Run, section: str) -> None:
    began = time.monotonic()
    print(f"\n== {section}", flush=True)
    found = run.results["sections"][section] = {"outcome": FAILED}
    try:
        SECTIONS[section](run, found)
    except Exception as error:
        found |= {"outcome": FAILED, "error": f"{type(error).__name__}: {error}"}
    found["seconds"] = round(time.monotonic() - began, 1)
    print(f"{section}: {found['outcome']} {found.get('error', '')}, {found['seconds']:.0f} s", flush=True)
    run.save()


def _header(options: argparse.Namespace) -> dict[str, Any]:
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"started": started, **{name: getattr(options, name) for name in ("dry_run", "quick", "minutes")}}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Prove and measure minimeta on a GPU.")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SHARES)}; default: all")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="of kernels and learners, by name")
    parser.add_argument("--minutes", type=float, help="for all sections together; default: as long as it takes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: bench/results/gpu-DEVICE.json")
    parser.add_argument("--quick", action="store_true", help="few runs per row")
    parser.add_argument("--no-graphs", action="store_true", help="record no CUDA graphs")
    parser.add_argument("--dry-run", action="store_true", help="on the processor; writes JSON only where --json says")
    return parser


def _rows(only: list[str] | None) -> dict[str, list[str]]:
    """The names of those asked for, by section."""
    wanted = {row.name for row in race.select([case.row for cases in CASES.values() for case in cases], only)}
    return {section: [case.row.name for case in cases if case.row.name in wanted] for section, cases in CASES.items()}


def _sections(options: argparse.Namespace, rows: dict[str, list[str]]) -> list[str]:
    """Those named, else all, or with --only those that have such rows."""
    for name in options.sections:
        if name not in SHARES:
            raise SystemExit(f"no section {name!r}; choose from {', '.join(SHARES)}")
    default = [name for name in SHARES if options.only is None or rows.get(name)]
    return [name for name in SHARES if name in (options.sections or default)]


def _device(run: Run) -> dict[str, Any]:
    """The device, its limits, the kernels that it leaves to the reference, the machine.

    Raises SystemExit where there is no GPU.
    """
    status, output = _execute(run.python("gpu_rows.py"), CHECK_SECONDS, errors=sys.stderr)
    if status != 0:
        raise SystemExit("bench/gpu.py: no GPU to measure on, see above; --dry-run goes without")
    packages = [name for name, version in doctor.versions().items() if version is not None and name != "python"]
    if importlib.util.find_spec("torch") is not None:
        packages.append("torch")
    machine = timing.machine(packages)
    found = json.loads(output)
    flop, traffic = found["limits"].values()
    print(f"{found['device']['name']}: matrix product {1e-12 * flop:.3g} TFLOP/s, copy {1e-9 * traffic:.4g} GB/s")
    print(timing.describe(machine))
    return {**found, "machine": machine}


def _default(run: Run) -> Path | None:
    name = re.sub(r"\W+", "-", run.results["device"]["name"].lower())
    return None if run.options.dry_run else BENCH / "results" / f"gpu-{name}.json"


def _tests(run: Run, found: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command.append("--continue-on-collection-errors")  # a file that wants a package not installed here
        if importlib.util.find_spec("xdist") is not None and not run.options.dry_run:
            command += ["-n", str(min(8, os.cpu_count() or 1))]  # compiling keeps the processor busy, not the GPU
        status, output = _execute([*command, "tests"], min(run.left, 6 * CHECK_SECONDS))
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    outcomes = {f"{case.get('classname')}.{case.get('name')}": _outcome(case) for case in cases}
    for outcome in ("passed", "skipped", "failed"):
        found[outcome] = sum(kind == outcome for kind, _ in outcomes.values())
    found["failures"] = {name: message for name, (kind, message) in outcomes.items() if kind == "failed"}
    print(output[-3000:])
    if status is None:
        found["error"] = "out of time"
    elif not found["passed"] and not run.options.dry_run:
        found["error"] = "no test of the GPU passed"
    elif status == 0 or (run.options.dry_run and status == _NO_TESTS):
        found["outcome"] = PASSED


_NO_TESTS = 5  # pytest's exit status


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    """Of a test, with the message of its failure."""
    for child in case:
        if child.tag in ("failure", "error"):
            return "failed", (child.get("message") or "")[:500]
        if child.tag == "skipped":
            return "skipped", ""
    return "passed", ""


def _sanitizer(run: Run, found: dict[str, Any]) -> None:
    """First the driver alone: it compares with the reference, and leaves compiled kernels on disk."""
    driver, tool = run.python("gpu_kernels_once.py"), _find_sanitizer()
    checks = {"alone": driver}
    if not run.options.dry_run:
        found["tool"] = tool
        checks |= {check: [str(tool), "--tool", check, *_STRICT, *driver] for check in CHECKS if tool}
    found["checks"] = {}
    for name, command in checks.items():
        status, output = _execute(command, min(run.left, CHECK_SECONDS))
        found["checks"][name] = {"status": "out of time" if status is None else status, "output": output[-2000:]}
        print(f"{name}: {found['checks'][name]['status']}\n{output[-500:]}", flush=True)
        run.save()
    if any(check["status"] != 0 for check in found["checks"].values()):
        return
    found["outcome"] = PASSED if tool or run.options.dry_run else NOT_FOUND


#: What it finds makes its exit status; but CUDA calls by which CuPy only asks whether something is there may fail.
_STRICT = ("--error-exitcode", "86", "--report-api-errors", "no")


def _find_sanitizer() -> str | None:
    """On PATH, in the toolkits' folders, or in NVIDIA's wheels."""
    homes = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    homes += [*sorted(Path("/usr/local").glob("cuda*"), reverse=True), Path("/opt/cuda")]
    places = [home / folder for home in homes for folder in ("bin", "compute-sanitizer")]
    places += [path.parent for path in Path(sysconfig.get_path("purelib")).glob("nvidia/**/compute-sanitizer")]
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)])
    return shutil.which("compute-sanitizer", path=path)


def _races(section: str) -> Callable[[Run, dict[str, Any]], None]:
    """The section of that name: the figures of its rows, and of those without any the reason."""

    def races(run: Run, found: dict[str, Any]) -> None:
        found |= {"rows": [], "failures": {}}
        print(table.GPU_HEADER)
        waiting = list(run.rows[section])
        while waiting and run.left > 0:
            for message in _measured(run, waiting):
                name = waiting.pop(0)
                if "error" in message:
                    found["failures"][name] = message["error"]
                    print(f"{name}: {message['error']}", flush=True)
                else:
                    found["rows"].append(message)
                    print(table.gpu_line(message), flush=True)
                run.save()
        found["failures"] |= dict.fromkeys(waiting, "out of time")
        found["outcome"] = FAILED if found["failures"] else PASSED

    return races


def _measured(run: Run, rows: list[str]) -> Iterator[dict[str, Any]]:
    """What one process says of the rows, in their order, until the first that has an "error"."""
    limits = run.results["limits"].values()
    options = [f"--{name}" for name in ("quick", "no-graphs") if getattr(run.options, name.replace("-", "_"))]
    process = _start(run.python("gpu_rows.py", *options, "--limits", *limits, "--", *rows), stderr=None)
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        for _ in list(rows):
            limit = min(ROW_SECONDS, run.left)
            try:
                line = lines.get(timeout=limit)
            except queue.Empty:
                line = json.dumps({"error": f"not done after {limit:.0f} seconds"})
            message = json.loads(line) if line else {"error": f"its process ended with status {process.wait()}"}
            yield message
            if "error" in message:
                return
    finally:
        _end(process)


def _execute(command: list[str], seconds: float, errors: Any = subprocess.STDOUT) -> tuple[int | None, str]:
    """The exit status, None where it took longer, and what it printed."""
    process = _start(command, errors)
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        _end(process)
        return None, process.communicate()[0]
    finally:
        _end(process)


def _start(command: list[str], stderr: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*PATHS, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
    )


def _end(process: subprocess.Popen[str]) -> None:
    """Stop it and what it has started, should it still run."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


SECTIONS = {"tests": _tests, "sanitizer": _sanitizer, "kernels": _races("kernels"), "learners": _races("learners")}

if __name__ == "__main__":
    sys.exit(main())
