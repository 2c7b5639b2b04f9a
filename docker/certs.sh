#!/bin/sh
# The init service of docker-compose.yml: TLS material for everybody who has a folder in /handed, and nobody else's.
#
# It runs as root, without a network and with no capability but CHOWN, for the volumes it fills belong to root. Every
# other service runs as uid 10001 and sees its own folder only: the authority's key leaves this container's volume never.
# Run again, it makes what is missing and replaces nothing.
set -eu
umask 077
fedcore certs /authority --missing --host coordinator
for folder in /handed/*; do
    name=${folder##*/}
    case $name in
        coordinator) ;;
        edge-*) fedcore certs /authority --missing --edge "$name" --host "$name" ;;
        evaluator) fedcore certs /authority --missing --evaluator "$name" ;;
        *) fedcore certs /authority --missing --class "$name" ;;
    esac
    [ -e "$folder/$name.key" ] && continue
    cp "/authority/ca.pem" "/authority/$name.pem" "$folder/"
    cp "/authority/$name.key" "$folder/.key"
    chmod 755 "$folder"
    chmod 644 "$folder/ca.pem" "$folder/$name.pem"
    chown 10001:10001 "$folder/.key"
    mv "$folder/.key" "$folder/$name.key" # last: it says that this folder is complete
    echo "handed $name its certificate"
done
