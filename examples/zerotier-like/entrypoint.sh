#!/bin/sh
# Says where it runs, or runs what it is given.
set -e
if [ "$1" = status ]; then
    echo "service on $(uname -m), $(curl --version | head -n 1)"
    exit 0
fi
exec "$@"
