"""One system on one data set: train, predict the test split, score it with `headroom eval`; one JSON line.

  peers.py --name LINE --out RESULTS.jsonl --build BUILD --data PREPARED --work WORK [--raw RAW] [--config YAML]
           [--threads N] [--top K] [--share S] ENGINE FEATURES [setting=value ...]

ENGINE is omikuji, pecos, fasttext or headroom; FEATURES is same, augmented, words or texts (inputs.py). A LINE that is already in
RESULTS is not repeated. Costs are those of the child alone, from start to end: the interpreter, reading its inputs,
training, writing the model. Nothing but the standard library is imported here (measure.py says why).
"""
import argparse
import datetime
import importlib.metadata
import json
import os
import shutil
import sys

import measure

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = {"omikuji": "omikuji", "pecos": "libpecos", "fasttext": "fasttext"}
# The peers must use the machine's best kernels, whatever the environment says for others.
ENV = {"OPENBLAS_CORETYPE": "SkylakeX"} if "avx512f" in open("/proc/cpuinfo").read() else {}


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("name", "out", "build", "data", "work"):
        p.add_argument("--" + flag, required=True)
    p.add_argument("--raw")
    p.add_argument("--config")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--top", type=int, default=10, help="labels of a ranking")
    p.add_argument("--share", help="score a second time without labels on more than this share of the training rows")
    p.add_argument("--keep", action="store_true", help="keep model and ranking")
    p.add_argument("engine", choices=["omikuji", "pecos", "fasttext", "headroom"])
    p.add_argument("features", choices=["same", "augmented", "words", "texts"])
    p.add_argument("settings", nargs="*")
    return p.parse_args()


def value(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def rows_of(prepared, split):
    with open(os.path.join(prepared, "manifest.json")) as f:
        return json.load(f)["splits"][split]["rows"]


def peer(a, settings, model, ranking):
    """Costs of training and prediction, and the version, of one of the others."""
    inputs = os.path.join(a.work, "inputs", os.path.basename(os.path.normpath(a.data)) + "-" + a.features)
    if not os.path.isdir(inputs):
        raw = [a.raw] if a.features in ("words", "texts") else []
        measure.run([sys.executable, os.path.join(HERE, "inputs.py"), a.features, a.data, inputs + ".tmp", *raw])
        os.rename(inputs + ".tmp", inputs)
    engine = [sys.executable, os.path.join(HERE, "engines.py")]
    full = json.dumps(dict(settings, threads=a.threads, top=a.top))
    train, text = measure.run([*engine, "train", a.engine, inputs, model, full], ENV)
    train.update(measure.last_json(text))
    predict, text = measure.run([*engine, "predict", a.engine, inputs, model, ranking, full], ENV)
    predict.update(measure.last_json(text))
    return train, predict, importlib.metadata.version(PACKAGE[a.engine])


def ours(a, settings, model, ranking):
    """The same for headroom; what it calls prediction includes opening the model and the evaluation."""
    tool = os.path.join(a.build, "headroom")
    run = model + ".run"
    shutil.rmtree(run, ignore_errors=True)
    config = ["--config", a.config] if a.config else []
    keys = [f"{k}={v}" for k, v in settings.items()]
    train, _ = measure.run([tool, "train", "--quiet", *config, f"dataset={a.data}", f"run={run}", f"threads={a.threads}", *keys])
    os.rename(os.path.join(run, "model"), model)
    predict, _ = measure.run([tool, "eval", model, a.data, "--quiet", "--threads", str(a.threads), "--top", str(a.top),
                              "--save", ranking])
    shutil.rmtree(run)
    return train, predict, measure.run([tool, "--version"])[1].split()[-1]


def scores(a, ranking, prefix, options):
    """Percent, from `headroom eval`."""
    tool = [os.path.join(a.build, "headroom"), "eval", "--predictions", ranking, a.data, "--json", "--quiet", *options]
    m = json.loads(measure.run(tool)[1])
    return {prefix + name: [round(100 * v, 3) for v in m[key][:3]] for name, key in (("P", "precision"), ("PSP", "psp"))}


def main():
    a = parse()
    if a.name in measure.names_done(a.out):
        return
    settings = {k: value(v) for k, v in (s.split("=", 1) for s in a.settings)}
    model = os.path.join(a.work, "models", a.name)
    ranking = model + ".ranking"
    os.makedirs(os.path.dirname(model), exist_ok=True)
    shutil.rmtree(model, ignore_errors=True)
    train, predict, version = (ours if a.engine == "headroom" else peer)(a, settings, model, ranking)
    rows = rows_of(a.data, "test")
    predict["ms_per_row"] = round(1000 * predict.get("predict_s", predict["wall_s"]) / rows, 4)
    record = {
        "name": a.name, "engine": a.engine, "version": version, "data": os.path.basename(os.path.normpath(a.data)),
        "features": a.features, "settings": settings, "threads": a.threads,
        "date": datetime.date.today().isoformat(), "train": train, "predict": predict,
        "model_bytes": measure.folder_bytes(model), "test_rows": rows}
    record.update(scores(a, ranking, "", []))
    if a.share:
        record.update(scores(a, ranking, "headline_", ["--max-label-share", a.share]))
    measure.append(a.out, record)
    if not a.keep:
        shutil.rmtree(model)
        os.remove(ranking)


if __name__ == "__main__":
    try:
        main()
    except measure.Failed as failed:
        sys.exit(str(failed))
