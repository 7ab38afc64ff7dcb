#!/usr/bin/env python3
"""Builds the wheel of the revived Python packages, installs it into every Python there is, and runs this suite on each.

    conformance/revival/run.py                                 all interpreters
    conformance/revival/run.py --python 3.8 -k messaging       part of the suite on one

Interpreters are `python3.8` to `python3.14` on the PATH, those of pyenv, and `python3`. Most of the suite's time is
waiting, so it runs on all of them at once. Where port 443 may not be bound, it runs in a network namespace of its own,
as `conformance/run.py` does.
"""

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CRATE = REPOSITORY / "crates" / "ostler-python"
PACKAGES = ["iothub_client", "iothub_service_client"]
VERSIONS = [f"3.{minor}" for minor in range(8, 15)]
# The default Python and the oldest one run everything; the others what a Python could do differently from another.
IN_FULL = "everything"
IN_PART = "names, errors, threads, messages and the end of the process"
PART = [
    "test_device_surface.py",
    "test_device_offline.py",
    "test_device_exit.py",
    "test_service_names.py",
    "test_service_errors.py",
    "test_service_messages.py",
    "test_service_process.py",
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--target-dir", type=Path, default=REPOSITORY / "target", help="cargo's, shared with its builds")
    parser.add_argument("--binary", type=Path, help="the hub; TARGET_DIR/debug/ostler otherwise")
    parser.add_argument("--python", action="append", metavar="3.N", help="run on these alone")
    parser.add_argument("-k", metavar="EXPRESSION", help="run the matching tests only")
    parser.add_argument("--workers", default=5, type=int, help="tests at a time where all of them run")
    return parser.parse_args()


def say(text):
    print(text, flush=True)


def run(command, **options):
    """A command that must work; its output is shown only if it does not."""
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


# ---------------------------------------------------------------- interpreters


def version_of(program):
    """`3.11`, or None if the program does not run: a shim of pyenv may name a version that is not active."""
    try:
        asked = [str(program), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def interpreters():
    """One program for each version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in VERSIONS:
        candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
        for candidate in filter(None, candidates):
            if version_of(candidate) == version:
                found[version] = str(candidate)
                break
    default = version_of(sys.executable)
    found.setdefault(default, sys.executable)
    return dict(sorted(found.items(), key=lambda item: int(item[0].split(".")[1])))


def environment(python, folder, requirements):
    """A virtual environment with these requirements, made again when either changed; its interpreter."""
    stamp = folder / ".made-from"
    wanted = hashlib.sha256(requirements.read_bytes() + python.encode()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        run([python, "-m", "venv", folder])
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "-r", requirements])
        stamp.write_text(wanted)
    return folder / "bin" / "python"


# ---------------------------------------------------------------- the wheel


def wheel(options, tools):
    """Builds it with cargo's development profile, in the target folder of the other builds."""
    folder = options.target_dir / "revival" / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    command = [tools.parent / "maturin", "build", "--profile", "dev", "--out", folder]
    run(
        [*command, "--manifest-path", CRATE / "Cargo.toml", "--interpreter", sys.executable],
        env={**os.environ, "CARGO_TARGET_DIR": str(options.target_dir)},
    )
    return next(folder.glob("*.whl"))


def install(python, wheel_file):
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    run([*pip, "--force-reinstall", wheel_file])


def check_types(tools, python):
    """The stubs say what the packages have, no more and no less, and suffice for typed programs of today."""
    python_path = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    mypy = [tools, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", tools.parents[1] / "mypy"]
    programs = sorted(HERE.glob("typed*.py"))
    run([*mypy, "--python-executable", python, *programs])
    # It imports what it judges, so it runs where the packages can be found.
    stubtest = [tools, "-m", "mypy.stubtest", "--concise", "--ignore-positional-only", "--ignore-missing-stub"]
    run([*stubtest, *PACKAGES], env={**os.environ, "PYTHONPATH": python_path}, cwd=tools.parents[1])
    say(f"stubs of {', '.join(PACKAGES)}: mypy --strict on {len(programs)} programs, stubtest; no complaint")


# ---------------------------------------------------------------- the suite


def start(version, python, options, extent):
    log = options.target_dir / "revival" / f"{version}.log"
    # The log of one interpreter must not be cut through by another's.
    with log.open("wb") as output:
        workers = options.workers if extent == IN_FULL else min(2, options.workers)
        command = [python, "-m", "pytest", "-n", workers, "--dist", "worksteal", "-p", "no:cacheprovider"]
        command += ["-k", options.k] if options.k else []
        command += PART if extent == IN_PART else []
        return log, subprocess.Popen(
            [str(part) for part in command],
            cwd=HERE,
            env={**os.environ, "OSTLER_BIN": str(options.binary), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def finish(version, log, process, extent):
    code = process.wait()
    text = log.read_text(errors="replace")
    closing = next((line for line in reversed(text.splitlines()) if line.strip()), "nothing was said")
    if code != 0:
        say(text)
    say(f"Python {version}: {closing.strip('= ')} ({extent})")
    return code == 0


def enough_ports():
    """Whether ports below 1024 may be bound; the helpers of the other suites know what to do otherwise."""
    specification = importlib.util.spec_from_file_location("conformance", HERE.parent / "run.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module if not module.may_bind_443() else None


def main():
    options = arguments()
    options.target_dir = options.target_dir.resolve()
    options.binary = (options.binary or options.target_dir / "debug" / "ostler").resolve()
    if not options.binary.is_file():
        sys.exit(f"{options.binary} is not there: cargo build -p ostler")
    folder = options.target_dir / "revival"
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    found = interpreters()
    if options.python:
        found = {version: python for version, python in found.items() if version in options.python}
    if not found:
        sys.exit(f"no Python of {', '.join(VERSIONS)} is here")
    with ThreadPoolExecutor() as pool:
        tools = pool.submit(environment, sys.executable, folder / "tools", HERE / "requirements-build.txt")
        made = pool.map(
            lambda item: environment(item[1], folder / f"python{item[0]}", HERE / "requirements.txt"), found.items()
        )
        pythons = dict(zip(found, made))
        tools = tools.result()
    if namespace := enough_ports():
        return namespace.enter_namespace()
    wheel_file = wheel(options, tools)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda python: install(python, wheel_file), pythons.values()))
    say(f"{wheel_file.name}: built and installed in {time.monotonic() - began:.0f} s")
    in_full = {min(found, key=minor), version_of(sys.executable)}
    extents = {version: IN_FULL if version in in_full else IN_PART for version in found}
    running = [(version, *start(version, pythons[version], options, extents[version])) for version in found]
    try:
        check_types(tools, next(iter(reversed(pythons.values()))))
        passed = [finish(version, log, process, extents[version]) for version, log, process in running]
    finally:
        # Nobody waits for them any more when the types are wrong, or somebody pressed Ctrl-C.
        for _, _, process in running:
            process.kill()
    say(f"Python packages: {sum(passed)} of {len(passed)} interpreters in {time.monotonic() - began:.0f} s")
    return 0 if all(passed) else 1


def minor(version):
    return int(re.sub(r".*\.", "", version))


if __name__ == "__main__":
    sys.exit(main())
