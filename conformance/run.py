#!/usr/bin/env python3
"""Runs the conformance suites: the official Azure SDKs, unmodified, against an `ostler` binary.

    conformance/run.py --binary target/debug/ostler            both suites
    conformance/run.py --only python -k twin                   part of one
    conformance/run.py --write-docs                            and renew docs/compatibility.md from what ran

With OSTLER_AGAINST_AZURE set to a connection string with all rights, the same cases run against that hub; those that
need a hub process of their own are skipped and say so.

The SDKs dial ports 8883 and 443 of their hub and no others. Where those may not be bound, the suites run in a network
namespace of their own (`unshare`), which needs no privilege and has a loopback interface to itself.
"""

import argparse
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
PYTHON_SUITE = HERE / "python"
NODE_SUITE = HERE / "node"
IN_NAMESPACE = "OSTLER_CONFORMANCE_NAMESPACE"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target" / "debug" / "ostler")
    parser.add_argument("--only", choices=["python", "node"], help="run one of the two suites")
    parser.add_argument("-k", metavar="EXPRESSION", help="run the matching tests only")
    parser.add_argument("--workers", default="6", help="Python tests at a time; most of their time is waiting")
    parser.add_argument("--write-docs", action="store_true", help="renew docs/compatibility.md from this run")
    parser.add_argument("--results", type=Path, default=HERE / "results.json", help="where the record of the run goes")
    return parser.parse_args()


def say(text):
    print(text, flush=True)


# ---------------------------------------------------------------- what the suites need


def stamped(folder, source, make):
    """Calls `make` unless `folder` was made from the present content of `source`."""
    stamp = folder / ".made-from"
    wanted = hashlib.sha256(source.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    make()
    stamp.write_text(wanted)


def python_environment():
    folder = PYTHON_SUITE / ".venv"

    def make():
        say("installing the Python SDKs")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", PYTHON_SUITE / "requirements.txt"], check=True)

    stamped(folder, PYTHON_SUITE / "requirements.txt", make)
    return folder / "bin" / "python"


def node_environment():
    folder = NODE_SUITE / "node_modules"

    def make():
        say("installing the Node SDKs")
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=NODE_SUITE, check=True)

    stamped(folder, NODE_SUITE / "package-lock.json", make)


def may_bind_443():
    with socket.socket() as probe:
        try:
            probe.bind(("127.254.254.1", 443))
        except PermissionError:
            return False
        except OSError:
            return True
    return True


def enter_namespace():
    """Starts this program again where it may bind 443; returns its exit code."""
    if os.environ.get(IN_NAMESPACE) or not shutil.which("unshare"):
        sys.exit("port 443 may not be bound here and `unshare` does not help: run as root, or allow it with\n"
                 "  sysctl net.ipv4.ip_unprivileged_port_start=443")  # fmt: skip
    script = 'ip link set lo up && exec "$0" "$@"'
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script, sys.executable, *sys.argv]
    return subprocess.run(command, env={**os.environ, IN_NAMESPACE: "1"}).returncode


# ---------------------------------------------------------------- the suites


def start(name, command, folder, environment):
    """Starts a suite with its output in a file, so that two suites do not talk at once."""
    log = HERE / f".{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
    return name, process, log


def suites(options, binary):
    environment = {**os.environ, "OSTLER_BIN": str(binary)}
    running, results = [], {}
    if options.only != "node":
        results["python"] = HERE / ".python.json"
        command = [python_environment(), "-m", "pytest", "-n", options.workers, "--dist", "worksteal"]
        command += ["-k", options.k] if options.k else []
        running.append(("python", command, PYTHON_SUITE))
    if options.only != "python":
        results["node"] = HERE / ".node.json"
        node_environment()
        command = ["node", "launch.mjs", "node", "--test", "--test-concurrency=4", "--test-timeout=180000"]
        command += ["--test-reporter=spec", "--test-reporter-destination=stdout"]
        command += ["--test-reporter=./record.mjs", f"--test-reporter-destination={results['node']}"]
        command += [f"--test-name-pattern={options.k}"] if options.k else []
        command += sorted(path.name for path in NODE_SUITE.glob("*.test.mjs"))
        running.append(("node", command, NODE_SUITE))
    for path in results.values():
        path.unlink(missing_ok=True)
    started = [
        start(name, command, folder, {**environment, "OSTLER_RESULTS": str(results[name])})
        for name, command, folder in running
    ]
    failed = False
    for name, process, log in started:
        code = process.wait()
        failed |= code != 0
        text = log.read_text(errors="replace")
        say(f"--- {name}" + ("" if code == 0 else f" (exit {code})"))
        say(text if code else closing_lines(name, text))
    return failed, {name: json.loads(path.read_text()) for name, path in results.items() if path.exists()}


def closing_lines(name, text):
    """What the runner itself says at the end, on one line."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if name == "python" else ", ".join(line.lstrip("ℹ ") for line in lines[-8:])


def missing_tools(options):
    if sys.version_info < (3, 11):
        return f"Python 3.11 or later is needed, this is {sys.version.split()[0]}"
    if options.only != "python" and not (shutil.which("node") and shutil.which("npm")):
        return "node (20.10 or later) and npm are needed for the Node SDKs; --only python runs the others"
    if options.only != "python" and not shutil.which("openssl"):
        return "openssl is needed to make a device certificate for the Node SDKs"
    return None


def main():
    options = arguments()
    if problem := missing_tools(options):
        sys.exit(f"conformance: {problem}")
    binary = options.binary.resolve()
    if not os.environ.get("OSTLER_AGAINST_AZURE") and not binary.is_file():
        sys.exit(f"{binary} is not there: cargo build -p ostler")
    if not may_bind_443():
        python_environment()
        node_environment()
        return enter_namespace()
    started = time.monotonic()
    failed, results = suites(options, binary)
    options.results.write_text(json.dumps(results, indent=1) + "\n")
    tests = [test for suite in results.values() for test in suite["tests"]]
    counts = {outcome: sum(test["outcome"] == outcome for test in tests) for outcome in ("passed", "failed", "skipped")}
    for test in tests:
        if test["outcome"] == "skipped":
            say(f"skipped: {test['test']}: {test['reason']}")
    if options.write_docs and not failed:
        subprocess.run([sys.executable, HERE / "report.py", options.results], check=True)
    elif not options.k and not options.only and not failed:
        failed |= subprocess.run([sys.executable, HERE / "report.py", "--check", options.results]).returncode != 0
    say(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + f" in {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
