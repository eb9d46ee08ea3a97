#!/bin/sh
# Bespoke from a shell: an event in, a list out. Usage: BESPOKE_KEY=... clients/curl.sh [URL]
# The key needs the scopes ingest, recommend and profiles: bespoke keys create NAME --scope ingest --scope recommend ...
set -eu
url="${1:-http://127.0.0.1:8000}"
person="${BESPOKE_PERSON:-alice}"

ask() {
    path="$1"
    shift
    # --retry waits as long as Retry-After says, for 429 and 503 among others.
    curl --silent --show-error --fail-with-body --max-time 5 --retry 3 --user "${BESPOKE_KEY}:" \
        --header "Content-Type: application/json" "$@" "${url}${path}"
    echo
}

echo "An event; a 2xx means that it is durable:"
ask /collect/v1/track --data "{
    \"userId\": \"${person}\", \"messageId\": \"curl-$$\",
    \"event\": \"Product Viewed\", \"properties\": {\"product_id\": \"p1\", \"price\": 9.5}
}"

echo "A list for the person. A repeat with the same Idempotency-Key is the same decision:"
ask /api/v1/recommendations --header "Idempotency-Key: curl-$$" --data "{\"userId\": \"${person}\", \"numResults\": 5}"

echo "Items like one item, where a filter holds:"
ask /api/v1/recommendations/similar --data '{"itemId": "p1", "numResults": 5, "filter": "available == $there",
    "filterValues": {"there": true}}'

echo "What is popular now:"
ask /api/v1/recommendations/trending --data '{"numResults": 5}'
