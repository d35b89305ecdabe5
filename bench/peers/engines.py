"""The peers themselves: one training or one prediction in this process. peers.py starts it as a child and measures it.

  engines.py train   ENGINE INPUTS MODEL         SETTINGS
  engines.py predict ENGINE INPUTS MODEL RANKING SETTINGS

SETTINGS is a JSON object; "threads" and "top" are always in it. RANKING gets one line a row, 'label:score ...'.
Prints a JSON object with the seconds of the parts.
"""
import json
import os
import sys
import time


class Watch:
    """Seconds of the parts of a run."""

    def __init__(self):
        self.parts, self.since = {}, time.monotonic()

    def lap(self, name):
        now = time.monotonic()
        self.parts[name] = round(now - self.since, 3)
        self.since = now


def write_rankings(path, rows):
    with open(path, "w") as out:
        for row in rows:
            out.write(" ".join(f"{label}:{score:.9g}" for label, score in row) + "\n")


class Omikuji:
    """Partitioned label trees. Settings: the fields of its hyper-parameters, and beam_size."""

    @staticmethod
    def train(inputs, model, s, watch):
        import omikuji
        h = omikuji.Model.default_hyper_param()
        for key, value in s.items():
            if key not in ("threads", "top", "beam_size"):
                setattr(h, key, value)
        watch.lap("import_s")
        m = omikuji.Model.train_on_data(os.path.join(inputs, "train.txt"), h, s["threads"])
        watch.lap("fit_s")  # reading its text file is in it
        m.save(model)
        watch.lap("save_s")

    @staticmethod
    def predict(inputs, model, ranking, s, watch):
        import omikuji
        import scipy.sparse as sp
        from concurrent.futures import ThreadPoolExecutor
        x = sp.load_npz(os.path.join(inputs, "test.X.npz"))
        m = omikuji.Model.load(model)
        m.init_prediction_thread_pool(s["threads"])
        m.densify_weights(0.05)
        watch.lap("load_s")

        def one(r):
            at = slice(x.indptr[r], x.indptr[r + 1])
            return m.predict(list(zip(x.indices[at].tolist(), x.data[at].tolist())), s.get("beam_size", 10), s["top"])
        with ThreadPoolExecutor(s["threads"]) as pool:
            rows = list(pool.map(one, range(x.shape[0]), chunksize=256))
        watch.lap("predict_s")
        write_rankings(ranking, rows)


class Pecos:
    """XR-Linear. Settings: nr_splits, max_leaf_size of the indexer; Cp, Cn, threshold; negatives (tfn, tfn+man);
    beam_size. Label features are PIFA, its default."""

    @staticmethod
    def train(inputs, model, s, watch):
        from pecos.xmc import Indexer, LabelEmbeddingFactory
        from pecos.xmc.xlinear.model import XLinearModel
        x = XLinearModel.load_feature_matrix(os.path.join(inputs, "train.X.npz"))
        y = XLinearModel.load_label_matrix(os.path.join(inputs, "train.Y.npz"), for_training=True)
        watch.lap("load_s")
        indexer = {k: s[k] for k in ("nr_splits", "max_leaf_size") if k in s}
        chain = Indexer.gen(LabelEmbeddingFactory.create(y, x, method="pifa"), threads=s["threads"], seed=0, **indexer)
        watch.lap("cluster_s")
        more = {k: s[k] for k in ("Cp", "Cn", "threshold") if k in s}
        m = XLinearModel.train(x, y, C=chain, threads=s["threads"], negative_sampling_scheme=s.get("negatives", "tfn"),
                               beam_size=s.get("beam_size", 10), only_topk=s["top"], **more)
        watch.lap("fit_s")
        m.save(model)
        watch.lap("save_s")

    @staticmethod
    def predict(inputs, model, ranking, s, watch):
        from pecos.xmc.xlinear.model import XLinearModel
        x = XLinearModel.load_feature_matrix(os.path.join(inputs, "test.X.npz"))
        m = XLinearModel.load(model, is_predict_only=True)
        watch.lap("load_s")
        p = m.predict(x, only_topk=s["top"], beam_size=s.get("beam_size", 10), threads=s["threads"])
        watch.lap("predict_s")
        at = p.indptr
        write_rankings(ranking, (zip(p.indices[at[r]:at[r + 1]], p.data[at[r]:at[r + 1]]) for r in range(p.shape[0])))


class FastText:
    """Supervised fastText. Settings: those of train_supervised (loss, dim, epoch, lr, wordNgrams, minCount, bucket)."""

    @staticmethod
    def train(inputs, model, s, watch):
        import fasttext
        options = {k: v for k, v in s.items() if k not in ("threads", "top")}
        watch.lap("import_s")
        m = fasttext.train_supervised(os.path.join(inputs, "train.ft"), thread=s["threads"], verbose=0, **options)
        watch.lap("fit_s")
        os.makedirs(model, exist_ok=True)
        m.save_model(os.path.join(model, "model.bin"))
        watch.lap("save_s")

    @staticmethod
    def predict(inputs, model, ranking, s, watch):
        import fasttext
        from concurrent.futures import ThreadPoolExecutor
        with open(os.path.join(inputs, "test.ft")) as f:
            lines = f.read().split("\n")[:-1]
        m = fasttext.load_model(os.path.join(model, "model.bin"))
        watch.lap("load_s")
        prefix = len("__label__")

        def one(line):  # the binding's own predict() fails with NumPy 2, and does no more than this
            return [(label[prefix:], score) for score, label in m.f.predict(line + "\n", s["top"], 0.0, "strict")]
        with ThreadPoolExecutor(s["threads"]) as pool:
            rows = list(pool.map(one, lines, chunksize=256))
        watch.lap("predict_s")
        write_rankings(ranking, rows)


ENGINES = {"omikuji": Omikuji, "pecos": Pecos, "fasttext": FastText}


def main(action, engine, *rest):
    watch = Watch()
    *paths, settings = rest
    getattr(ENGINES[engine], action)(*paths, json.loads(settings), watch)
    print("\n" + json.dumps(watch.parts))


if __name__ == "__main__":
    main(*sys.argv[1:])
