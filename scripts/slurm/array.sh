#!/usr/bin/env bash
# One sweep by several jobs that know nothing of each other, without Ray. From the checkout:
#   sbatch --array 0-7 --time 3:00:00 scripts/slurm/array.sh benchmarks/cifar10.yaml --time-limit 170m
# Every job runs the same command: a cell is locked while somebody computes it. Arguments are those
# of `fedbench sweep`. For a GPU in each job, add --gres=gpu:1 to sbatch.
#SBATCH --job-name=fedbench
#SBATCH --cpus-per-task=8
#SBATCH --output=fedbench-%A-%a.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
export FEDBENCH_HOME="${FEDBENCH_HOME:-$PWD/runs}" FEDBENCH_DATA="${FEDBENCH_DATA:-$PWD/data}"
exec .venv/bin/fedbench sweep "$@"
