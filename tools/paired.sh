#!/bin/sh
# Paired comparison of training variants: every variant with every seed on the same data, then one Markdown table of test metrics,
# differences to the first variant with 95 % intervals (t distribution over the seeds), and what a run costs. Resumable: a
# finished run is not repeated.
#
#   paired.sh BUILD_FOLDER DATA OUT [common key=value ...] < variants
#
# A variant is a line "name | key=value ...". SEEDS (default "1 2 3"), EVAL (options for `headroom eval`), THREADS (default 1:
# then the processor time does not depend on what else the machine does).
set -eu
H=$1/headroom data=$2 out=$3
shift 3
seeds=${SEEDS:-"1 2 3"}
mkdir -p "$out"
variants=$(cat)

# One line of figures of a finished run: P@1 3 5, PSP@1 3 5, processor seconds an epoch, best validation P@1, density, touched rows,
# processor seconds until validation P@1 reached $1 (or "-").
figures() {
    awk -v goal="$1" '
        function get(key,   s) { s = $0; if (!sub(".*\"" key "\":", "", s)) return ""; sub("[,}].*", "", s); return s }
        FILENAME ~ /eval$/ { if ($1 == "P" || $1 == "PSP") m[$1] = $2 " " $3 " " $4; next }
        /"event":"step"/ { cpu = get("cpu_seconds"); epoch = get("epoch"); d = get("density"); if (d != "") { dens += d; rows += get("touched_rows"); n++ } }
        /"event":"validation"/ { v = get("p@1"); t = get("cpu_seconds"); if (v > best) best = v; if (at == "" && v >= goal) at = t }
        END { printf "%s %s %.3f %.6f %s %s %s\n", m["P"], m["PSP"], cpu / epoch, best, n ? dens / n : 1, n ? rows / n : 1, at == "" ? "-" : at }
    ' "$2.eval" "$2.log"
}

echo "$variants" | while IFS='|' read -r name keys; do
    name=$(echo $name | tr ' /' '__')
    for seed in $seeds; do
        file=$out/$name-$seed
        [ -s "$file.eval" ] && continue
        run=$out/run-$name-$seed
        rm -rf "$run"
        # shellcheck disable=SC2086
        "$H" train --quiet threads="${THREADS:-1}" dataset="$data" run="$run" seed="$seed" "$@" $keys </dev/null >&2
        # shellcheck disable=SC2086
        "$H" eval "$run/model" "$data" --quiet ${EVAL:-} </dev/null >"$file.tmp"
        cp "$run/log.jsonl" "$file.log"
        mv "$file.tmp" "$file.eval"
        rm -rf "$run"
        echo "paired: $name seed $seed done" >&2
    done
done

echo "| variant | P@1 | P@3 | P@5 | PSP@1 | PSP@3 | PSP@5 | ΔP@1 | ΔP@3 | ΔP@5 | ΔPSP@1 | ΔPSP@3 | ΔPSP@5 | density % | touched rows % | CPU s/epoch | CPU s to the first variant's best validation P@1 |"
echo "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
base=$(echo "$variants" | head -n 1 | cut -d'|' -f1)
base=$(echo $base | tr ' /' '__')
echo "$variants" | while IFS='|' read -r title keys; do
    title=$(echo $title) # trims
    name=$(echo $title | tr ' /' '__')
    for seed in $seeds; do
        goal=$(figures 2 "$out/$base-$seed" | cut -d' ' -f8)
        echo "$(figures "$goal" "$out/$base-$seed") $(figures "$goal" "$out/$name-$seed")"
    done | awk -v name="$title" '
        { n++; for (i = 1; i <= 11; i++) m[i] += $(11 + i); if ($22 == "-") never++
          for (i = 1; i <= 6; i++) { d = $(11 + i) - $i; s[i] += d; q[i] += d * d } }
        function student(k) { return k == 1 ? 12.706 : k == 2 ? 4.303 : k == 3 ? 3.182 : k == 4 ? 2.776 : 2.2 }
        function interval(i,   mean, v) {
            if (n < 2) return sprintf("%+.2f", s[i])
            mean = s[i] / n; v = (q[i] - n * mean * mean) / (n - 1); v = v > 0 ? v : 0
            return sprintf("%+.2f ± %.2f", mean, student(n - 1) * sqrt(v / n))
        }
        END { printf "| %s", name; for (i = 1; i <= 6; i++) printf " | %.2f", m[i] / n; for (i = 1; i <= 6; i++) printf " | %s", interval(i)
              printf " | %.3f | %.1f | %.1f | %s |\n", 100 * m[9] / n, 100 * m[10] / n, m[7] / n, never ? "– (" never " of " n " did not)" : sprintf("%.0f", m[11] / n) }'
done
