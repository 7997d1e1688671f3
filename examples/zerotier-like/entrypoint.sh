#!/bin/sh
# Prints where it runs, or runs the given command.
set -e
if [ "$1" = status ]; then
    echo "service on $(uname -m), $(curl --version | head -n 1)"
    exit 0
fi
exec "$@"
