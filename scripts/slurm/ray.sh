#!/usr/bin/env bash
# One sweep on several nodes, through Ray. From the checkout, which all nodes have to see:
#   sbatch --nodes 4 --time 3:00:00 scripts/slurm/ray.sh benchmarks/cifar10.yaml --time-limit 170m
# Arguments are those of `fedbench sweep`. The same command goes on where the last job stopped.
#SBATCH --job-name=fedbench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --output=fedbench-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
export PATH="$PWD/.venv/bin:$PATH"
export FEDBENCH_HOME="${FEDBENCH_HOME:-$PWD/runs}" FEDBENCH_DATA="${FEDBENCH_DATA:-$PWD/data}"
# Local to each node and short, because Ray's sockets lie there.
export RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID" RAY_USAGE_STATS_ENABLED=0
# Without a token, everybody on the network could run code as you.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${nodes[0]} # this script runs there
port=$((20000 + SLURM_JOB_ID % 20000))

one=(srun --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK")
answers() { (exec 3<>"/dev/tcp/$first/$port") 2>/dev/null; }
leave() {
  kill $(jobs -p) 2>/dev/null || true
  wait
  for node in "${nodes[@]}"; do "${one[@]}" --nodelist="$node" rm -rf "$RAY_TMPDIR"; done
}
trap leave EXIT

"${one[@]}" --nodelist="$first" ray start --head --port="$port" \
  --num-cpus="$SLURM_CPUS_PER_TASK" --include-dashboard=false --block &
until answers; do
  kill -0 $! # ends the job if Ray has ended
  sleep 1
done
for node in "${nodes[@]:1}"; do
  "${one[@]}" --nodelist="$node" ray start --address="$first:$port" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --block &
done
fedbench sweep --executor ray --address "$first:$port" "$@"
