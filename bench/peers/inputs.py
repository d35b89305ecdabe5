"""Inputs for the peers, made once and not counted in anybody's time.

  inputs.py same  PREPARED OUT           the rows of a prepared data set (docs/dataset_format.md), as they are
  inputs.py augmented PREPARED OUT       the same, and the text of each label as one more row with that label
  inputs.py words PREPARED OUT RAW       TF-IDF of words and word pairs, by scikit-learn, from the texts
  inputs.py texts PREPARED OUT RAW       lines for fastText

OUT gets {train,test}.X.npz, train.Y.npz and train.txt (the sparse text format that omikuji reads), or {train,test}.ft.
"""
import gzip
import json
import lzma
import os
import re
import sys

import numpy as np
import scipy.sparse as sp


def prepared_csr(folder, name, columns):
    def part(p):
        path = os.path.join(folder, f"{name}.{p}.npy")
        return np.load(path, mmap_mode="r") if os.path.exists(path) else None
    indptr, indices, values = part("indptr"), part("indices"), part("values")
    values = np.ones(len(indices), np.float32) if values is None else np.asarray(values)
    return sp.csr_matrix((values, np.asarray(indices).astype(np.int32), np.asarray(indptr)), shape=(len(indptr) - 1, columns))


def open_any(folder, *names):
    for name in names:
        for ending, opener in (("", open), (".gz", gzip.open), (".xz", lzma.open)):
            path = os.path.join(folder, name + ending)
            if os.path.exists(path):
                return opener(path, "rt", encoding="utf-8", errors="replace", newline="\n")
    return None


def texts(raw, split):
    """One text a row; title and body are joined by a blank."""
    short = {"train": "trn", "test": "tst"}[split]
    lines = open_any(raw, f"{short}_X.txt")
    if lines:
        return [line.rstrip("\n").replace("\t", " ") for line in lines]
    rows = map(json.loads, open_any(raw, f"{short}.json"))
    return [(row["title"] + " " + row.get("content", "")).replace("\t", " ").replace("\n", " ") for row in rows]


def write_sparse_text(path, x, y):
    with open(path, "w") as out:
        out.write(f"{x.shape[0]} {x.shape[1]} {y.shape[1]}\n")
        for r in range(x.shape[0]):
            features = slice(x.indptr[r], x.indptr[r + 1])
            labels = y.indices[y.indptr[r]:y.indptr[r + 1]]
            pairs = zip(x.indices[features].tolist(), x.data[features].tolist())
            line = ",".join(map(str, labels.tolist())) + " " + " ".join(f"{i}:{v:.7g}" for i, v in pairs)
            out.write(line.rstrip() + "\n")  # omikuji refuses a row that ends with a blank


def save_matrices(out, train, test, y):
    for name, m in (("train.X", train), ("test.X", test), ("train.Y", y)):
        m.sort_indices()
        sp.save_npz(os.path.join(out, name + ".npz"), m, compressed=False)
    write_sparse_text(os.path.join(out, "train.txt"), train, y)


def words(raw):
    from sklearn.feature_extraction.text import TfidfVectorizer
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2), dtype=np.float32)
    return vectorizer.fit_transform(texts(raw, "train")), vectorizer.transform(texts(raw, "test"))


def save_lines(out, raw, y):
    word = re.compile(r"\w+")
    for split in ("train", "test"):
        with open(os.path.join(out, split + ".ft"), "w") as lines:
            for r, text in enumerate(texts(raw, split)):
                if split == "train":
                    lines.write("".join(f"__label__{label} " for label in y.indices[y.indptr[r]:y.indptr[r + 1]]))
                lines.write(" ".join(word.findall(text.lower())) + "\n")


def main(kind, prepared, out, raw=None):
    with open(os.path.join(prepared, "manifest.json")) as f:
        manifest = json.load(f)
    os.makedirs(out, exist_ok=True)
    y = prepared_csr(prepared, "train.labels", manifest["labels"])
    if kind in ("same", "augmented"):
        f = manifest["features"]
        x = prepared_csr(prepared, "train.features", f)
        if kind == "augmented":
            x = sp.vstack([x, prepared_csr(prepared, "label.features", f)], format="csr", dtype=np.float32)
            y = sp.vstack([y, sp.identity(y.shape[1], np.float32)], format="csr", dtype=np.float32)
        save_matrices(out, x, prepared_csr(prepared, "test.features", f), y)
    elif kind == "words":
        save_matrices(out, *words(raw), y)
    else:
        save_lines(out, raw, y)


if __name__ == "__main__":
    main(*sys.argv[1:])
