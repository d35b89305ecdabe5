"""Independent computation of the ranking metrics, from the formulae of docs/metrics.md.

Writes tests/golden/metrics.txt: random cases with their expected values, read by tests/metrics/test_metrics.c.
Run from the root of the repository:  python3 tests/oracle/metrics_oracle.py > tests/golden/metrics.txt

Nothing here is shared with the C code. Clarity over speed: every metric is computed from the whole list of rows.
"""
import math
import random

KS = [1, 3, 5, 10, 100]


def inverse_propensity(freq, n_train, a, b):
    if n_train < 3:
        return [1.0 for _ in freq]
    c = (math.log(n_train) - 1) * (b + 1) ** a
    return [1 + c * (f + b) ** -a for f in freq]


def ideal(n):
    return math.fsum(1 / math.log2(j + 1) for j in range(1, n + 1))


def gains(ranking, truth, w, k):
    """(plain, weighted) gain at ranks 1 to k, zeros beyond the end of the ranking."""
    plain = [1.0 if l in truth else 0.0 for l in ranking[:k]] + [0.0] * max(0, k - len(ranking))
    weighted = [w[l] if l in truth else 0.0 for l in ranking[:k]] + [0.0] * max(0, k - len(ranking))
    return plain, weighted


def dcg(flags):
    return math.fsum(g / math.log2(j + 2) for j, g in enumerate(flags))


def deciles(freq, counted):
    trained = sorted((l for l in range(len(freq)) if counted[l] and freq[l] > 0), key=lambda l: (-freq[l], l))
    group = {l: 10 * r // len(trained) for r, l in enumerate(trained)}
    for l in range(len(freq)):
        if counted[l] and freq[l] == 0:
            group[l] = 9
    return group


def evaluate(case):
    w = inverse_propensity(case["freq"], case["n"], case["a"], case["b"])
    counted = case["counted"]
    rows = [(r, {l for l in t if counted[l]}) for r, t in case["rows"]]
    m = len(rows)
    group = deciles(case["freq"], counted)
    out = {"labels_counted": sum(counted)}
    for k in [k for k in KS if k <= case["top"]]:
        p, rec, nd, psp, psp0, psn, psn0 = ([] for _ in range(7))
        for ranking, truth in rows:
            plain, weighted = gains(ranking, truth, w, k)
            best = sorted((w[l] for l in truth), reverse=True)[:k]
            p.append(sum(plain) / k)
            rec.append(sum(plain) / max(1, len(truth)))
            psp.append(sum(weighted) / k)
            psp0.append(sum(best) / k)
            if truth:
                clip = ideal(min(k, len(truth)))
                nd.append(dcg(plain) / clip)
                psn.append(dcg(weighted) / clip)
                psn0.append(dcg(best) / clip)
        out[f"p@{k}"] = math.fsum(p) / m
        out[f"r@{k}"] = math.fsum(rec) / m
        out[f"ndcg@{k}"] = math.fsum(nd) / m
        out[f"psp@{k}"] = math.fsum(psp) / math.fsum(psp0)
        out[f"psndcg@{k}"] = math.fsum(psn) / math.fsum(psn0)
        present = set().union(*(t for _, t in rows))
        right = set().union(*(set(r[:k]) & t for r, t in rows))
        out[f"coverage@{k}"] = len(right) / len(present)
        for d in range(10):
            pairs = sum(1 for _, t in rows for l in t if group[l] == d)
            hits = sum(1 for r, t in rows for l in r[:k] if l in t and group[l] == d)
            out[f"decile{d}@{k}"] = hits / pairs if pairs else 0.0
    rr = []
    for ranking, truth in rows:
        first = [j for j, l in enumerate(ranking[: case["top"]]) if l in truth]
        rr.append(1 / (first[0] + 1) if first else 0.0)
    out["mrr"] = math.fsum(rr) / m
    return out


def random_case(rng, labels, rows, top, n, a, b, share_uncounted):
    freq = [int(rng.paretovariate(0.7)) - 1 for _ in range(labels)]
    freq = [min(f, n) for f in freq]
    counted = [0 if rng.random() < share_uncounted else 1 for _ in range(labels)]
    some = [l for l in range(labels) if counted[l]]
    data = []
    for _ in range(rows):
        truth = sorted(rng.sample(range(labels), rng.choice([0, 1, 2, 3, 7, min(labels, 30)])))
        size = rng.choice([0, 1, top // 2, top, top, top])
        pool = some if rng.random() < 0.5 else [l for l in some if l in truth or rng.random() < 0.2]
        data.append((rng.sample(pool, min(size, len(pool))), truth))
    return {"freq": freq, "counted": counted, "n": n, "a": a, "b": b, "top": top, "rows": data}


def words(values):
    return " ".join(str(v) for v in values)


def main():
    rng = random.Random(20160813)
    cases = [
        random_case(rng, 40, 30, 5, 1000, 0.55, 1.5, 0.0),
        random_case(rng, 60, 25, 7, 485176, 0.6, 2.6, 0.2),
        random_case(rng, 150, 25, 100, 20000, 0.5, 0.4, 0.1),
        random_case(rng, 33, 20, 10, 2, 0.55, 1.5, 0.0),
        random_case(rng, 31, 12, 1, 300, 0.55, 1.5, 0.5),
    ]
    print("# written by tests/oracle/metrics_oracle.py")
    for case in cases:
        print("case", len(case["freq"]), case["n"], repr(case["a"]), repr(case["b"]), case["top"], len(case["rows"]))
        print("freq", words(case["freq"]))
        print("counted", words(case["counted"]))
        for ranking, truth in case["rows"]:
            print("row", len(ranking), words(ranking), "|", len(truth), words(truth))
        for name, value in sorted(evaluate(case).items()):
            print("expect", name, repr(value))
        print("end")


if __name__ == "__main__":
    main()
