#!/usr/bin/env bash
# Builds the image for GPUs, uploads it, and starts the job of docs/scripts/vertex.yaml.
#
#   PROJECT=my-project BUCKET=my-bucket bash docs/scripts/vertex.sh
#
# Needs docker and gcloud, signed in, and a repository called vidgarden of Artifact Registry.
# Not run by the tests, which read the job's file alone.
set -euo pipefail
: "${PROJECT:?of Google Cloud}" "${BUCKET:?that holds records and runs}"
REGION=${REGION:-us-central1}
image=$REGION-docker.pkg.dev/$PROJECT/vidgarden/vidgarden:gpu
docker build --build-arg GPU=1 --tag "$image" .
docker push "$image"
job=$(mktemp --suffix=.yaml)
sed -e "s/PROJECT/$PROJECT/; s/BUCKET/$BUCKET/g; s/us-central1/$REGION/" docs/scripts/vertex.yaml > "$job"
gcloud ai custom-jobs create --project="$PROJECT" --region="$REGION" \
  --display-name=vidgarden --config="$job"
