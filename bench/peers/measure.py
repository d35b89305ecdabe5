"""One command as a child: its wall time, its own CPU time and its own peak memory.

Linux carries the peak of the address space a child had before exec into its ru_maxrss, so a process that measures
must stay small: this module, and whatever calls it, imports the standard library only.
"""
import json
import os
import subprocess
import tempfile
import time


class Failed(Exception):
    pass


def run(command, env=None, stdin=None):
    """Runs it to the end. Returns (cost, what it printed); raises Failed with the end of its messages."""
    env = dict(os.environ, **(env or {}))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.monotonic()
        child = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=err, env=env)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        text, messages = out.read().decode(), err.read().decode(errors="replace")
    if child.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {child.returncode}\n{text[-500:]}{messages[-2000:]}")
    cost = {"wall_s": round(wall, 3), "user_s": round(used.ru_utime, 3), "sys_s": round(used.ru_stime, 3),
            "peak_mib": round(used.ru_maxrss / 1024, 1)}
    return cost, text


def last_json(text):
    """The last line that is a JSON object: peers print other things too."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    return {}


def folder_bytes(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(at, f)) for at, _, files in os.walk(path) for f in files)


def names_done(results):
    """Names of the lines that are in a results file."""
    if not os.path.exists(results):
        return set()
    with open(results) as lines:
        return {json.loads(line)["name"] for line in lines if line.strip()}


def append(results, record):
    with open(results, "a") as out:
        out.write(json.dumps(record) + "\n")
