#!/bin/sh
# Calls a service through the gateway of this host: lookup.sh SERVICE [PATH]
# Prints what it says. Exit status 1 when nobody has it, or it can't be called.
gateway=${BDSERVER_GATEWAY:-http://127.0.0.1:9080}
service=${1:?usage: lookup.sh SERVICE [PATH]}
said=$(mktemp) && trap 'rm -f "$said"' EXIT

# -L follows the 307 to the host that takes this call. A host may end between its word and the call: then ask again.
for _ in 1 2 3; do
    status=$(curl --silent --show-error -L --max-time 20 --output "$said" --write-out '%{http_code}' "$gateway/$service${2:-}")
    case $status in
        200) cat "$said" && exit ;;
        404) break ;;
    esac
done
echo "lookup.sh: $service: $status $(cat "$said")" >&2
exit 1
