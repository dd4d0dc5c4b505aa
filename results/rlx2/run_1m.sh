#!/usr/bin/env bash
# The runs of one million steps behind evidence_1m.py: 24 of them, most about half an hour on one
# core; the dense ones, of 300,000 steps on the reference, take longer.
# Idempotent: finished runs are skipped, stopped ones resumed. JOBS runs at a time, one thread each.
#
#     results/rlx2/run_1m.sh runs/1m [JOBS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export out=${1:?folder for the runs}
export OMP_NUM_THREADS=1

one() { # recipe, environment, seed
    local folder=$out/$1-$2-$3
    local length=(--steps 1000000 --backend engine)
    if [ "$1" = dense ]; then
        # The warm-up and the evaluations of the long runs.
        length=(--steps 300000 --learning-starts 8333 --evaluate-every 5000 --backend reference)
    fi
    if [ -e "$folder/DONE" ]; then
        return
    elif [ -e "$folder/config.json" ]; then
        thrifty resume "$folder" --quiet
    else
        thrifty train "rlx2.$1" --env "$2" "${length[@]}" --seed "$3" --out "$folder" --quiet
    fi
}
export -f one

for seed in 0 1 2; do
    for environment in HalfCheetah-v5 Hopper-v5; do
        for recipe in td3 static rigl dense; do
            echo "one $recipe $environment $seed"
        done
    done
done | xargs -P "${2:-2}" -I{} bash -c "{}" || failed=$?  # what is finished is collected all the same
python "$here/evidence_1m.py" collect "$out"
python "$here/evidence_1m.py" summarise
exit ${failed:-0}
