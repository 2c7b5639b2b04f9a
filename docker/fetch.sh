#!/bin/sh
# The fetch service of docker-compose.yml: bring what is named fetch:NAME into the cache, and see that the rest is there.
set -eu
for spec in "$@"; do
    case $spec in
        fetch:*) fedcore fetch "${spec#fetch:}" ;;
        *)
            if [ ! -r "$spec" ]; then
                echo "error: $spec is not there, or uid 10001 may not read it; FEDCORE_LOCAL names the folder that is seen as /local" >&2
                exit 1
            fi
            echo "$spec: there already"
            ;;
    esac
done
