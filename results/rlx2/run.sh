#!/usr/bin/env bash
# The runs behind results/rlx2: 3 of the demo (about 3 minutes each on one core) and 15 of 100,000
# steps (15 to 40 minutes each on the reference, with other work on the machine).
# Idempotent: finished runs are skipped, stopped ones resumed. JOBS runs at a time, one thread each.
#
#     results/rlx2/run.sh runs/evidence [JOBS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?folder for the runs}
export OMP_NUM_THREADS=1
{
    for seed in 0 1 2; do
        echo "thrifty train rlx2.demo --seed $seed --out $out/demo-$seed --quiet"
    done
    for seed in 0 1 2; do
        for environment in HalfCheetah-v5 Hopper-v5; do
            for recipe in dense td3; do
                echo "thrifty train rlx2.$recipe --env $environment --steps 100000" \
                    "--backend reference --seed $seed --out $out/$recipe-$environment-$seed --quiet"
            done
        done
        echo "python $here/sb3_td3.py --environment HalfCheetah-v5 --steps 100000" \
            "--seed $seed --out $out/sb3-HalfCheetah-v5-$seed"
    done
} | xargs -P "${2:-2}" -I{} bash -c "{}" || failed=$?  # what is finished is collected all the same
python "$here/summarise.py" "$out"
python "$here/demo.py" "$out"
exit ${failed:-0}
