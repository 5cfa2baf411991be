#!/usr/bin/env bash
# One run on several hosts. Start it on each with the same flags; only INDEX differs.
#
#   HOSTS=node1:12345,node2:12345 INDEX=0 bash docs/scripts/hosts.sh \
#     --experiment=cvrl_pretrain --model_dir=/shared/runs/cvrl --params_override=...
#
# HOSTS names every worker as host:port, in the same order everywhere; INDEX is this one's
# place in it, from 0. The data and --model_dir are paths that all hosts see.
# MODULE=official.video.evaluate scores in train's stead.
set -euo pipefail
: "${HOSTS:?name every worker: host:port,host:port}" "${INDEX:?the place of this host in HOSTS}"
export TF_CONFIG="{\"cluster\": {\"worker\": [\"${HOSTS//,/\",\"}\"]},
  \"task\": {\"type\": \"worker\", \"index\": $INDEX}}"
exec "${PYTHON:-python}" -m "${MODULE:-official.video.train}" \
  --config_file="$(dirname "$0")/hosts.yaml" "$@"
